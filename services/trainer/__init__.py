"""The trainer: Celery segments around warm torch processes; batch -> optimizer steps -> version -> checkpoint."""
