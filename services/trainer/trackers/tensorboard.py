"""TensorBoard's event files: `tensorboard --logdir <data_dir>/jobs` shows every job.

A new file is written from the first batch whenever a trainer takes the job up, so no batch appears twice; its first
record makes a running TensorBoard discard the data of the older file. The older file is emptied and not removed,
because a reader cannot skip a file that vanished.
"""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

from services.kit.imports import as_if_absent
from services.trainer.trackers.row import Row

with as_if_absent("torch"):  # tensorboardX loads it where it is installed, which takes seconds and hundreds of MB
    from tensorboardX.proto.event_pb2 import Event, SessionLog
    from tensorboardX.proto.summary_pb2 import Summary
    from tensorboardX.record_writer import RecordWriter

FILE_VERSION = "brain.Event:2"
"""The text that TensorBoard wants in the first record."""


class TensorBoard:
    """One event file in `folder`; what older ones say is taken back."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for older in folder.glob("events.out.tfevents.*"):
            os.truncate(older, 0)
        now = time.time()
        name = f"events.out.tfevents.{int(now):010d}.{socket.gethostname()}.{os.getpid()}.{time.monotonic_ns()}"
        self._file = RecordWriter(str(folder / name))
        self._write(Event(wall_time=now, file_version=FILE_VERSION))
        self._write(Event(wall_time=now, step=0, session_log=SessionLog(status=SessionLog.START)))

    def log(self, row: Row) -> None:
        """One record a row, on disk when this returns."""
        values = [Summary.Value(tag=name, simple_value=value) for name, value in row.figures.items()]
        self._write(Event(wall_time=row.at_unix_s, step=row.step, summary=Summary(value=values)))

    def close(self, state: str | None) -> None:
        self._file.close()

    def _write(self, event: Event) -> None:
        self._file.write(event.SerializeToString())
        self._file.flush()
