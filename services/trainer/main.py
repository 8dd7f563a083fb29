"""The trainer as a process: python -m services.trainer.main. Settings: TRAINER_* (settings.py)."""

from __future__ import annotations

import sys

from services.contracts.service_settings import read_settings
from services.kit.log import configure_logging
from services.trainer.celery_worker.celery_app import celery_app
from services.trainer.celery_worker.worker import run_worker
from services.trainer.settings import Settings


def main() -> None:
    """Read the settings and run the Celery worker until SIGTERM; the segment under way ends at its next boundary."""
    settings = read_settings(Settings)
    configure_logging("trainer", settings.log_level)
    sys.exit(run_worker(celery_app(settings), settings))


if __name__ == "__main__":
    main()
