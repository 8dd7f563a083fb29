"""Breaks the whole platform on purpose while it trains a job, and checks that nothing was lost or changed."""
