"""trackio: one run per job. TRACKIO_DIR, TRACKIO_SERVER_URL and TRACKIO_SPACE_ID set its destination."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping

import trackio

from services.trainer.trackers.row import Row


class Trackio:
    """The job's run."""

    def __init__(self, name: str, project: str, parameters: Mapping[str, object]) -> None:
        with contextlib.redirect_stdout(sys.stderr):  # it greets, and stdout is not for that
            self._run = trackio.init(
                project=project,
                name=name,
                config=dict(parameters),
                resume="allow",
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )

    def log(self, row: Row) -> None:
        self._run.log(row.figures, step=row.step)

    def close(self, state: str | None) -> None:
        with contextlib.redirect_stdout(sys.stderr):
            self._run.finish()
