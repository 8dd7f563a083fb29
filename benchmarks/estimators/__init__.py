"""Estimators judged without training: their advantages beside the true ones of a known policy."""
