"""The group of ranks: started, watched, kept warm between jobs; loads no torch."""

from __future__ import annotations

import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import structlog

from services.kit.process import kill_group
from services.trainer.errors import RanksLost
from services.trainer.ranks.messages import AnyAnswer, AnyRequest, decode_answer, receive, send
from services.trainer.ranks.torchrun import Meeting, ranks_command

log = structlog.get_logger("trainer")

POLL_S = 0.5
END_S = 40.0
"""torchrun gives its ranks 30 s to end before it kills them."""


def learner_of(ranks: int) -> str:
    """The subject of a sentence about them."""
    return "the process of the learner" if ranks == 1 else f"one of the {ranks} ranks of the learner"


class RankGroup:
    """Processes that train together. They end when one of them ends, and when this process does.

    Args:
        ranks: how many.
        start_s: longest start, imports included.
        meeting: where the ranks of several machines meet; None: all are on this one.

    Raises:
        RanksLost: they did not start.
    """

    def __init__(self, ranks: int, start_s: float, meeting: Meeting | None = None) -> None:
        self._ranks = ranks
        with tempfile.TemporaryDirectory(prefix="gigpo-ranks-") as private, socket.socket(socket.AF_UNIX) as listener:
            path = Path(private) / "rank0"  # the folder is this user's alone
            listener.bind(str(path))
            listener.listen(1)
            self._process = subprocess.Popen(ranks_command(ranks, str(path), meeting), start_new_session=True)
            log.info("the ranks start", ranks=ranks, pid=self._process.pid)
            self._connection = self._accepted(listener, start_s)

    def ask(self, request: AnyRequest) -> AnyAnswer:
        """Pass a request to all ranks and wait for rank 0's answer.

        Raises:
            RanksLost: one of them ended; the group is at its end.
        """
        try:
            send(self._connection, request)
            return decode_answer(receive(self._connection))
        except (EOFError, OSError) as error:
            self.close()
            raise RanksLost(f"{learner_of(self._ranks)} ended") from error

    def close(self) -> None:
        """End the processes; repeatable."""
        connection = getattr(self, "_connection", None)
        if connection is not None:
            connection.close()
        try:
            self._process.wait(END_S if connection is not None else 0)
        except subprocess.TimeoutExpired:
            kill_group(self._process.pid)  # ranks watch their parent
            self._process.wait()

    def _accepted(self, listener: socket.socket, start_s: float) -> socket.socket:
        listener.settimeout(POLL_S)
        deadline = time.monotonic() + start_s
        while time.monotonic() < deadline and self._process.poll() is None:
            with suppress(TimeoutError):
                connection, _ = listener.accept()
                connection.setblocking(True)
                return connection
        status = self._process.poll()
        self.close()
        cause = f"exit status {status}" if status is not None else f"not within {start_s:g} s"
        raise RanksLost(f"{learner_of(self._ranks)} did not start: {cause}")
