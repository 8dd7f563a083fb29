"""The torch side of the trainer: a policy, its optimizer, and what one batch does to them. Knows no Redis, no Celery."""
