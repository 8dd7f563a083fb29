"""What the trainer's process and rank 0 say to each other: one request, one answer, over a private socket."""

from __future__ import annotations

import socket
import struct

import msgspec

from services.trainer.learner.rows import Pair, Row

_LENGTH = struct.Struct("<Q")


class Request(msgspec.Struct, tag=True, frozen=True):
    """Each names the learner that it is for; the asker numbers them."""

    learner: int


class Open(Request, frozen=True):
    spec: bytes
    """JSON of a `JobSpec`."""
    folder: str


class Load(Request, frozen=True):
    folder: str


class Save(Request, frozen=True):
    folder: str


class SavePolicy(Request, frozen=True):
    folder: str


class Export(Request, frozen=True):
    folder: str


class Probe(Request, frozen=True):
    pass


class Mismatch(Request, frozen=True):
    rows: list[Row]


class Divergence(Request, frozen=True):
    rows: list[Row]


class TrainBatch(Request, frozen=True):
    rows: list[Row]
    batch_index: int


class Supervise(Request, frozen=True):
    """Begin; each step is asked for by `Step`."""

    pairs: list[Pair]
    warmstart: bytes
    """JSON of a `WarmStart`."""


class Step(Request, frozen=True):
    pass


class Close(Request, frozen=True):
    """Forget the learner; one that is not known is no error."""


AnyRequest = (
    Open | Load | Save | SavePolicy | Export | Probe | Mismatch | Divergence | TrainBatch | Supervise | Step | Close
)


class Done(msgspec.Struct, tag=True, frozen=True):
    device: str = ""
    optimizer_steps: int = 0
    figures: dict[str, float] = {}
    numbers: list[float] = []
    files: dict[str, str] = {}
    probe: bytes | None = None
    """JSON of a `PolicyProbe`."""


class Stepped(msgspec.Struct, tag=True, frozen=True):
    step: int
    nll: float


class Refused(msgspec.Struct, tag=True, frozen=True):
    """A LearnerError."""

    kind: str
    message: str


class NotWritten(msgspec.Struct, tag=True, frozen=True):
    """An OSError."""

    errno: int | None
    message: str
    filename: str | None


AnyAnswer = Done | Stepped | Refused | NotWritten


def send(connection: socket.socket, message: AnyRequest | AnyAnswer) -> None:
    """Raises OSError: the other side is gone."""
    payload = msgspec.msgpack.encode(message)
    connection.sendall(_LENGTH.pack(len(payload)) + payload)


def receive(connection: socket.socket) -> bytes:
    """The next message, encoded. Raises EOFError, OSError: the other side is gone."""
    (length,) = _LENGTH.unpack(_exactly(connection, _LENGTH.size))
    return _exactly(connection, length)


def decode_request(payload: bytes) -> AnyRequest:
    """Raises msgspec.MsgspecError."""
    request: AnyRequest = msgspec.msgpack.decode(payload, type=AnyRequest)
    return request


def decode_answer(payload: bytes) -> AnyAnswer:
    """Raises msgspec.MsgspecError."""
    answer: AnyAnswer = msgspec.msgpack.decode(payload, type=AnyAnswer)
    return answer


def _exactly(connection: socket.socket, length: int) -> bytes:
    found = bytearray(length)
    view, read = memoryview(found), 0
    while read < length:
        got = connection.recv_into(view[read:])
        if not got:
            raise EOFError("the other side has closed the connection")
        read += got
    return bytes(found)
