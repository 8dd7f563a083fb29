"""Insight into jobs: the diagnosis of a job, changes between two jobs, and watched episodes."""
