"""One rank as a process: python -m services.trainer.ranks.process SOCKET; torchrun starts it where there are several.

Rank 0 speaks to the trainer's process and passes every request on, so that all ranks do the same. One of several that
meets anything but an answer of its learner ends, and torchrun then ends the others.
"""

from __future__ import annotations

import os
import select
import shutil
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta

import structlog
import torch
import torch.distributed as dist
from torch._C._distributed_c10d import HashStore

from services.kit.log import configure_logging
from services.kit.pulse import pulse_of_child, pulse_thread
from services.trainer.learner.errors import LearnerError
from services.trainer.learner.pieces import PiecesNotWritten
from services.trainer.learner.ranks import ALONE, joined
from services.trainer.ranks.answers import Learners
from services.trainer.ranks.messages import AnyAnswer, Broken, NotWritten, Refused, decode_request, receive, send
from services.trainer.settings import Settings

log = structlog.get_logger("trainer")

IDLE = timedelta(days=365)
"""A rank waits so long for the next request; the loss of another one ends it at once."""
WATCH_S = 1.0


def main() -> None:
    """Answer requests until the trainer's process closes the connection."""
    settings = Settings()
    configure_logging("trainer", settings.log_level)
    if settings.pulse_file is not None:
        pulse_thread(pulse_of_child(settings.pulse_file, os.getpid()))
    _end_with_parent()
    torch.set_num_threads(settings.torch_threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    if dist.is_torchelastic_launched() or settings.offload != "none":  # pieces are what can be moved
        _answer_together(settings)
        return
    learners = Learners(ALONE)
    with _connected(sys.argv[1]) as connection:
        for payload in _received(connection):
            send(connection, answer(learners, payload))


def _answer_together(settings: Settings) -> None:
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
    if dist.is_torchelastic_launched():
        dist.init_process_group(backend)
    else:
        dist.init_process_group(backend, store=HashStore(), rank=0, world_size=1)
    requests = dist.new_group(backend="gloo", timeout=IDLE)
    learners = Learners(joined(settings.shard_ranks or dist.get_world_size(), settings.offload))
    if dist.get_rank() == 0:
        with _connected(sys.argv[1]) as connection:
            for payload in _received(connection):
                _passed_on(payload, requests)
                given = answer(learners, payload)
                if isinstance(given, Broken) and dist.get_world_size() > 1:
                    sys.exit(given.message)  # perhaps it is the loss of another rank; whoever asked is told of a loss
                send(connection, given)
        _passed_on(b"", requests)
    else:
        while payload := _passed_on(b"", requests):
            given = answer(learners, payload)
            if isinstance(given, Broken) or (isinstance(given, NotWritten) and not given.everywhere):
                sys.exit(given.message)  # it could not go on like the others
    dist.destroy_process_group()


def answer(learners: Learners, payload: bytes) -> AnyAnswer:
    """The learner's answer, or the reason why it refuses."""
    try:
        return learners.answer(decode_request(payload))
    except LearnerError as error:
        return Refused(type(error).__name__, str(error))
    except OSError as error:
        cause = error.args[0][0][2] if isinstance(error, shutil.Error) else error.strerror or error
        filename = None if error.filename is None else str(error.filename)
        return NotWritten(error.errno, str(cause), filename, everywhere=isinstance(error, PiecesNotWritten))
    except Exception as error:  # the outermost loop: the job that met it fails, and the next one may go well
        log.exception("the learner broke")
        return Broken(f"{type(error).__name__}: {error}")


def _passed_on(payload: bytes, group: dist.ProcessGroup) -> bytes:
    """Rank 0's payload, on every rank; empty: there is none any more."""
    length = torch.tensor(len(payload))
    dist.broadcast(length, 0, group=group)
    content = torch.zeros(int(length), dtype=torch.uint8)
    if payload:
        content.copy_(torch.frombuffer(bytearray(payload), dtype=torch.uint8))
    if len(content):
        dist.broadcast(content, 0, group=group)
    return content.numpy().tobytes()


def _connected(path: str) -> socket.socket:
    """A connection whose loss ends this process, also while it computes."""
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)
    _thread(lambda: _end_with(connection))
    return connection


def _received(connection: socket.socket) -> Iterator[bytes]:
    while True:
        try:
            yield receive(connection)
        except (EOFError, OSError):
            return


def _end_with(connection: socket.socket) -> None:
    poll = select.poll()
    poll.register(connection, select.POLLRDHUP)
    poll.poll()
    time.sleep(WATCH_S)  # a rank that waits for a request ends in order meanwhile
    os._exit(1)


def _end_with_parent() -> None:
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(WATCH_S)
        os._exit(1)

    _thread(watch)


def _thread(work: Callable[[], None]) -> None:
    threading.Thread(target=work, daemon=True).start()


if __name__ == "__main__":
    main()
