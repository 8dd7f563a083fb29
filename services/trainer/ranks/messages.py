"""Messages between the trainer's process and rank 0: one request, one answer, over a private socket."""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence
from dataclasses import replace

import msgspec

from gigpo_core import Turn
from gigpo_core.turns import Allowed
from services.contracts.messages import Episode, ScoredGroup
from services.trainer.learner.rows import Row

_LENGTH = struct.Struct("<Q")
NO_TURN = Turn((), 0, 0)


class Turns(msgspec.Struct, frozen=True):
    """Turns whose sequences travel once each, and are shared by the same turns on the other side."""

    sequences: list[tuple[int, ...]]
    places: list[tuple[int, int, int, int]]
    """Each turn's number of its sequence, start, stop, and number of what it allows."""
    allowed: list[Allowed]
    """Each different one once."""

    @classmethod
    def of(cls, turns: Sequence[Turn]) -> Turns:
        """Pack the turns for sending."""
        numbers: dict[int, int] = {}
        choices: dict[Allowed, int] = {}
        places = [
            (
                numbers.setdefault(id(turn.ids), len(numbers)),
                turn.start,
                turn.stop,
                choices.setdefault(turn.allowed, len(choices)),
            )
            for turn in turns
        ]
        known = {id(turn.ids): turn.ids for turn in turns}
        return cls([known[name] for name in numbers], places, list(choices))

    def unpacked(self) -> list[Turn]:
        """Unpack the turns as they were."""
        return [
            Turn(self.sequences[number], start, stop, self.allowed[choice])
            for number, start, stop, choice in self.places
        ]


class Rows(msgspec.Struct, frozen=True):
    """Rows of a batch."""

    turns: Turns
    rest: list[Row]
    """The rows without their turns."""

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Rows:
        """Pack the rows for sending."""
        return cls(Turns.of([row.turn for row in rows]), [replace(row, turn=NO_TURN) for row in rows])

    def unpacked(self) -> list[Row]:
        """Unpack the rows as they were."""
        return [replace(row, turn=turn) for row, turn in zip(self.rest, self.turns.unpacked(), strict=True)]


class Request(msgspec.Struct, tag=True, frozen=True):
    """Each names the learner that it is for; the asker numbers them."""

    learner: int


class BuildScratch(msgspec.Struct, tag=True, frozen=True):
    """Write a new small policy; this concerns no learner."""

    scratch: bytes
    """JSON of a `ScratchModel`."""
    vocabulary: list[str]
    seed: int
    folder: str


class Rescore(msgspec.Struct, tag=True, frozen=True):
    """Score the groups of a batch together; this concerns no learner."""

    groups: list[tuple[ScoredGroup, list[Episode]]]
    spec: bytes
    """JSON of a `JobSpec`."""
    kl: list[list[float]] | None


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
    rows: Rows


class Divergence(Request, frozen=True):
    rows: Rows


class TrainBatch(Request, frozen=True):
    rows: Rows
    batch_index: int


class Supervise(Request, frozen=True):
    """Begin; each step is asked for by `Step`."""

    turns: Turns
    warmstart: bytes
    """JSON of a `WarmStart`."""


class Step(Request, frozen=True):
    pass


class Close(Request, frozen=True):
    """Forget the learner; one that is not known is no error."""


AnyRequest = (
    BuildScratch
    | Rescore
    | Open
    | Load
    | Save
    | SavePolicy
    | Export
    | Probe
    | Mismatch
    | Divergence
    | TrainBatch
    | Supervise
    | Step
    | Close
)


class Done(msgspec.Struct, tag=True, frozen=True):
    device: str = ""
    optimizer_steps: int = 0
    figures: dict[str, float] = {}
    numbers: list[float] = []
    files: dict[str, str] = {}
    scored: list[ScoredGroup] = []
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
    everywhere: bool = False
    """All ranks met it, so they go on alike."""


class Broken(msgspec.Struct, tag=True, frozen=True):
    """Any other error."""

    message: str


AnyAnswer = Done | Stepped | Refused | NotWritten | Broken


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
