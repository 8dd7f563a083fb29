"""One tracker's thread: it opens the tracker, gives it each row once, and keeps the tracker's failure to itself."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from services.kit.files import NO_ROOM
from services.trainer.trackers.row import Row, Tracker

MOST_WAITING = 10_000
"""Rows; a tracker that is further behind is given up."""
FIRST_PAUSE_S, LONGEST_PAUSE_S, LAST_PAUSE_S = 1.0, 30.0, 0.5
"""Before a tracker whose disk has no room is opened again; the last one once no row follows."""


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

    def opened(self) -> None:
        """The tracker is opened now."""
        if self._path is None:
            self._ids.clear()

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
        self.hindrance: str | None = None
        """The last refusal of its disk; the tracker is opened again and gets all rows."""
        self._open, self._sent = open_tracker, sent
        self._rows: queue.Queue[Row | None] = queue.Queue(MOST_WAITING)
        self._taken: list[Row] = []
        """Rows that this process took from the queue."""
        self._over = threading.Event()
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
            self._over.set()

    def join(self, timeout_s: float) -> None:
        """Wait until everything is fed; a tracker that takes longer is given up."""
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            cause = f", the last refusal: {self.hindrance}" if self.hindrance else ""
            self.failure = self.failure or f"it did not take the last rows within {timeout_s:g} s{cause}"

    def _run(self) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                self._feed()
                return
            except Exception as error:  # noqa: BLE001 - whatever a tracking library raises must not end a job
                if not (isinstance(error, OSError) and error.errno in NO_ROOM):
                    self.failure = f"{type(error).__name__}: {error}"
                    return
                self.hindrance = str(error)
            if self._over.wait(pause_s):
                time.sleep(LAST_PAUSE_S)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _feed(self) -> None:
        """Open the tracker and give it every row that it lacks, until none follows."""
        tracker = self._open()
        self._sent.opened()
        try:
            for taken in self._taken:
                self._give(tracker, taken)
            while not (self._closing and self._rows.empty()) and (row := self._rows.get()) is not None:
                self._taken.append(row)
                self._give(tracker, row)
            tracker.close(self._state)
        except OSError as error:
            if error.errno in NO_ROOM:
                with suppress(Exception):  # so that it writes nothing more once there is room
                    tracker.close(None)
            raise

    def _give(self, tracker: Tracker, row: Row) -> None:
        if row not in self._sent:
            tracker.log(row)
            self._sent.note(row)
