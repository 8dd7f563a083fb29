"""The torch side of the trainer: a policy, its optimizer, what one batch does to them. No Redis, no Celery here."""
