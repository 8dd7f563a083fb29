"""The REST API: SQL holds the truth about jobs. The trainer gets jobs by Redis and Celery and answers by events."""
