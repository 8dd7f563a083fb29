"""One tracker's thread: it opens the tracker, gives it each row once, and keeps the tracker's failure to itself."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from pathlib import Path

from services.trainer.trackers.row import Row, Tracker

MOST_WAITING = 10_000
"""Rows; a tracker that is further behind is given up."""


class SentRows:
    """The ids of the rows that a tracker has, one a line.

    Args:
        path: None: it forgets them when it is opened, and is given every row.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._ids: set[str] = set()
        if path is not None and path.exists():
            whole = path.read_text(encoding="utf-8").rpartition("\n")[0]  # a half-written last line does not count
            self._ids = set(whole.splitlines())
            path.write_text("".join(f"{line}\n" for line in whole.splitlines()), encoding="utf-8")

    def __contains__(self, row: Row) -> bool:
        return row.id in self._ids

    def note(self, row: Row) -> None:
        """The tracker has it."""
        self._ids.add(row.id)
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8") as file:
                file.write(f"{row.id}\n")


class Feeder:
    """Feeds one tracker.

    Args:
        open_tracker: called on the thread; it may take long and fail.
    """

    def __init__(self, name: str, open_tracker: Callable[[], Tracker], sent: SentRows) -> None:
        self.name = name
        self.failure: str | None = None
        """Why it was given up."""
        self._open, self._sent = open_tracker, sent
        self._rows: queue.Queue[Row | None] = queue.Queue(MOST_WAITING)
        self._state: str | None = None
        self._closing = False
        self._thread = threading.Thread(target=self._run, name=f"tracker-{name}", daemon=True)
        self._thread.start()

    def add(self, row: Row) -> None:
        """Give it a row, at once."""
        if self._closing or self.failure is not None:
            return
        try:
            self._rows.put_nowait(row)
        except queue.Full:
            self.failure = f"{MOST_WAITING} rows behind"

    def close(self, state: str | None) -> None:
        """Accept no further row; what waits is still fed. `state`: see `Tracker.close`."""
        if not self._closing:
            self._closing, self._state = True, state
            if not self._rows.full():
                self._rows.put_nowait(None)

    def join(self, timeout_s: float) -> None:
        """Wait until everything is fed; a tracker that takes longer is given up."""
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            self.failure = self.failure or f"it did not take the last rows within {timeout_s:g} s"

    def _run(self) -> None:
        try:
            tracker = self._open()
            while (row := self._rows.get()) is not None:
                if row not in self._sent:
                    tracker.log(row)
                    self._sent.note(row)
            tracker.close(self._state)
        except Exception as error:  # noqa: BLE001 - whatever a tracking library raises must not end a job
            self.failure = f"{type(error).__name__}: {error}"
