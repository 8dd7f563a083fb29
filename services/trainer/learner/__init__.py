"""The torch side of the trainer: a policy, its optimizer, and the update by one batch. No Redis, no Celery here."""
