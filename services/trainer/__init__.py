"""The trainer: Celery segments around a warm torch process; batch -> optimizer steps -> version -> checkpoint."""
