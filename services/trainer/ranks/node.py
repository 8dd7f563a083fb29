"""A machine that lends ranks to a trainer elsewhere: python -m services.trainer.ranks.node. Settings: TRAINER_*."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
from types import FrameType

import structlog

from services.contracts.service_settings import read_settings
from services.kit.log import configure_logging
from services.trainer.ranks.torchrun import Meeting, meeting_of, ranks_command
from services.trainer.settings import Settings

log = structlog.get_logger("trainer")

LOOK_S = 1.0
END_S = 40.0
"""torchrun gives its ranks 30 s to end before it kills them."""


class Node:
    """Joins each group of ranks that node 0 starts, one after the other."""

    def __init__(self, ranks: int, meeting: Meeting) -> None:
        self._ranks, self._meeting = ranks, meeting
        self._stop = threading.Event()
        self._torchrun: subprocess.Popen[bytes] | None = None

    def run(self) -> None:
        """Run until `stop`."""
        while not self._stop.is_set():
            if self._is_open():
                self._join()
            self._stop.wait(LOOK_S)

    def stop(self, _number: int = 0, _frame: FrameType | None = None) -> None:
        """End the ranks of this machine, and with them the group; a signal's handler."""
        self._stop.set()
        if self._torchrun is not None:
            self._torchrun.terminate()

    def _is_open(self) -> bool:
        """Whether node 0 waits for the others."""
        host, _, port = self._meeting.address.rpartition(":")
        try:
            socket.create_connection((host, int(port)), timeout=LOOK_S).close()
        except OSError:
            return False
        return True

    def _join(self) -> None:
        log.info("the ranks of this node start", node=self._meeting.node, at=self._meeting.address)
        with subprocess.Popen(ranks_command(self._ranks, "", self._meeting)) as self._torchrun:
            while self._torchrun.poll() is None and not self._stop.wait(LOOK_S):
                pass
            try:
                status = self._torchrun.wait(END_S)
            except subprocess.TimeoutExpired:
                self._torchrun.kill()  # ranks watch their parent
                status = self._torchrun.wait()
        log.info("the ranks of this node ended", node=self._meeting.node, status=status)


def main() -> int:
    """Exit status 2: the settings name no other machine."""
    settings = read_settings(Settings)
    configure_logging("trainer", settings.log_level)
    meeting = meeting_of(settings)
    if meeting is None or meeting.node == 0:
        log.error("want TRAINER_NODES above 1 and TRAINER_NODE above 0", nodes=settings.nodes, node=settings.node)
        return 2
    node = Node(settings.ranks, meeting)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, node.stop)
    node.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
