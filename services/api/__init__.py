"""The REST API: SQL is the truth about jobs; the trainer is told through Redis and Celery and heard through events."""
