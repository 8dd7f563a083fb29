"""A trainer's loop without processes: a session whose groups are played by a script, on a fake or a real ledger."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from gigpo_core import Turn
from services.contracts import keys
from services.contracts.environment import EnvironmentInfo
from services.contracts.events import AnyBody, CheckpointSaved, PhaseBegan
from services.contracts.job import JobSpec, WarmStart, parse_spec
from services.contracts.jobfolder import JobFolder
from services.contracts.messages import OpenedGroup, ScoredGroup
from services.contracts.policy import ReplicaStatus
from services.ledger import Books, DropReason, GroupState, MoveRefused, StaleEpoch
from services.ledger.records import Balance, GroupRecord
from services.trainer.errors import JobFailed
from services.trainer.events import Events
from services.trainer.groups.arrivals import ARRIVED
from services.trainer.groups.payloads import Payload
from services.trainer.groups.playability import Playability
from services.trainer.groups.training_queue import TrainingQueue
from services.trainer.learner.port import Divergences, Scored, Supervising
from services.trainer.learner.rows import Row
from services.trainer.learner.second_stage import rescored
from services.trainer.session.consumption import Consumption
from services.trainer.session.session import Session
from services.trainer.storage.checkpoint import newest_complete
from services.trainer.storage.progress import Progress
from tests.unit.trainer.trainer_payloads import payload, step

JOB, EPOCH = "job_1", 1


def loop_spec(
    *, staleness: int = 1, size: int = 2, batches: int = 4, rollout: dict[str, Any] | None = None, **algorithm: Any
) -> JobSpec:
    return parse_spec(
        {
            "model": {"scratch": {}},
            "rollout": {
                "max_staleness": staleness,
                "groups_per_batch": size,
                "max_completion_length": 8,
                **(rollout or {}),
            },
            "training": {"total_batches": batches},
            "algorithm": algorithm,
            "evaluation": {"eval_episodes": 10},
        }
    )


@dataclass(frozen=True)
class Answer:
    """How a group comes out."""

    version: int | None = None
    """That samples all of its tokens; None: its `min_version`."""
    spread: float = 1.0
    """Spread of the returns."""
    cause: str | None = None
    """Every attempt fails with it."""
    reason: DropReason = DropReason.INFRA
    """Why the group is dropped then."""
    silent: bool = False
    """Nobody plays it."""


@dataclass
class Script:
    """Answers by purpose and cursor, and what was asked."""

    answers: dict[tuple[str, int], Answer] = field(default_factory=dict)
    default: Answer = Answer()

    def answer(self, group: OpenedGroup) -> Answer:
        return self.answers.get((group.purpose, group.cursor), self.default)

    def train(self, cursor: int, answer: Answer) -> None:
        self.answers["train", cursor] = answer

    def payload(self, group: OpenedGroup) -> Payload:
        """One episode of one step for each of the group's."""
        answer = self.answer(group)
        version = group.min_version if answer.version is None else answer.version
        episodes = [[step(0, version=version)] for _ in range(group.n)]
        return payload(group.group_id, group.cursor, episodes, {"return_spread": answer.spread})


class FakeLedger:
    """The ledger's moves of the trainer, in memory."""

    job = JOB

    def __init__(self) -> None:
        self.epoch = EPOCH
        self.groups: dict[str, OpenedGroup] = {}
        self.states: dict[str, GroupState] = {}
        self.causes: dict[str, str] = {}
        self.reasons: dict[str, DropReason] = {}
        self.batches: dict[str, int] = {}
        self.stored: dict[int, str] = {}

    async def claim_epoch(self) -> int:
        self.epoch += 1
        return self.epoch

    async def newest_epoch(self) -> int:
        return self.epoch

    async def open(self, epoch: int, group: OpenedGroup, max_attempts: int) -> GroupState:
        self._fence(epoch)
        self.groups.setdefault(group.group_id, group)
        return self.states.setdefault(group.group_id, GroupState.OPEN)

    async def assign(self, epoch: int, batch: int, manifest: str, group_ids: Sequence[str]) -> None:
        self._fence(epoch)
        if any(self.states[name] is not GroupState.SCORED for name in group_ids):
            raise MoveRefused("assign")
        self.states |= dict.fromkeys(group_ids, GroupState.ASSIGNED)
        self.batches |= dict.fromkeys(group_ids, batch)
        self.stored[batch] = manifest

    async def consume(self, epoch: int, batch: int, group_ids: Sequence[str]) -> None:
        self._fence(epoch)
        if any(self.states[name] not in (GroupState.ASSIGNED, GroupState.CONSUMED) for name in group_ids):
            raise MoveRefused("consume")
        self.states |= dict.fromkeys(group_ids, GroupState.CONSUMED)
        self.stored.pop(batch, None)

    async def drop(self, epoch: int, group_id: str, reason: DropReason) -> bool:
        self._fence(epoch)
        self.states[group_id] = GroupState.DROPPED
        self.reasons[group_id] = reason
        return True

    async def forget_strangers(self) -> None:
        """Nobody but the moves writes here."""

    async def live(self) -> list[str]:
        ended = (GroupState.CONSUMED, GroupState.DROPPED)
        return sorted(name for name, state in self.states.items() if state not in ended)

    async def balance(self) -> Balance:
        return Balance(opened=len(self.groups), consumed=0, live=len(await self.live()), retried=0)

    async def manifests(self) -> dict[int, str]:
        return dict(self.stored)

    async def plant(self, batch: int, manifest: str) -> None:
        """Have a stranger write it."""
        self.stored[batch] = manifest

    async def seal(self, epoch: int, trained: Sequence[str]) -> Books:
        self._fence(epoch)
        return Books(JOB, {"seal": 1}, await self.live(), list(trained))

    async def settle(self, epoch: int, batch: int, group_ids: Sequence[str]) -> int:
        self._fence(epoch)
        return 0

    async def catch_up(self, epoch: int, books: Books) -> bool:
        return False

    async def record_of(self, group_id: str) -> GroupRecord | None:
        group = self.groups.get(group_id)
        if group is None:
            return None
        reason, cause = self.reasons.get(group_id), self.causes.get(group_id)
        return GroupRecord(
            state=self.states[group_id], purpose=group.purpose, cursor=group.cursor, n=group.n, attempt=1,
            batch=self.batches.get(group_id), reason=reason and reason.value, cause=cause,
            redrawn=3 if cause and cause.startswith("environment env_bug") else 0,
        )  # fmt: skip

    def _fence(self, epoch: int) -> None:
        if epoch != self.epoch:
            raise StaleEpoch(str(epoch))


class FakeArrivals:
    """Whoever waits has the groups played first."""

    def __init__(self, ledger: FakeLedger, script: Script) -> None:
        self._ledger, self._script = ledger, script
        self.causes: dict[str, str] = {}

    async def wait(self, epoch: int, missing: Collection[str]) -> dict[str, GroupState]:
        await asyncio.sleep(0)
        states = self._ledger.states
        for name in missing:
            answer = self._script.answer(self._ledger.groups[name])
            if states[name] is not GroupState.OPEN or answer.silent:
                continue
            states[name] = GroupState.DROPPED if answer.cause else GroupState.SCORED
            if answer.cause:
                self._ledger.causes[name] = answer.cause
                self._ledger.reasons[name] = answer.reason
        return {name: states[name] for name in missing if states[name] in ARRIVED}

    async def states(self, names: Sequence[str]) -> dict[str, GroupState]:
        return {name: self._ledger.states[name] for name in names if name in self._ledger.states}


class FakeStored:
    """Payloads as the script says."""

    def __init__(self, ledger: FakeLedger, script: Script) -> None:
        self._ledger, self._script = ledger, script

    async def load(self, group_ids: Sequence[str]) -> list[Payload]:
        return [self._script.payload(self._ledger.groups[name]) for name in group_ids]


class FakeEvents(Events):
    """Keeps the warnings, the phases and the names of the checkpoints."""

    def __init__(self) -> None:
        super().__init__(None, JOB)  # type: ignore[arg-type]
        self.warnings: list[str] = []
        self.counted: list[str] = []
        self.checkpoints: list[str] = []
        self.phases: list[PhaseBegan] = []

    async def warn(self, message: str) -> None:
        self.warnings.append(message)

    async def count(self, cause: str) -> None:
        self.counted.append(cause)

    async def last_cause(self, since_unix_s: float) -> str | None:
        return self.counted[-1] if self.counted else None

    async def add(self, body: AnyBody) -> None:
        if isinstance(body, CheckpointSaved):
            self.checkpoints.append(body.name)
        if isinstance(body, PhaseBegan):
            self.phases.append(body)


class FakeLearner:
    """Agrees with the engine; its state is one file."""

    device = "cpu"

    def __init__(self) -> None:
        self.mismatch_kl = 0.0
        self.scored_rows = 0
        """How many rows were asked for their divergence."""

    def divergence(self, rows: Sequence[Row]) -> list[float]:
        first, self.scored_rows = self.scored_rows, self.scored_rows + len(rows)
        return [0.1 * (first + place) for place in range(len(rows))]

    def rescored(self, groups: Sequence[Scored], spec: JobSpec, kl: Divergences | None) -> list[ScoredGroup]:
        return rescored(groups, spec, kl)

    def mismatch(self, rows: Sequence[Row]) -> dict[str, float]:
        return {"mismatch_kl": self.mismatch_kl}

    def supervise(self, turns: Sequence[Turn], warmstart: WarmStart) -> Supervising:
        for done in range(1, warmstart.warmstart_steps + 1):
            yield done, 0.5
        return {"warmstart_nll": 0.5, "warmstart_rows": float(len(turns))}

    def export(self, folder: Path) -> None:
        (folder / "config.json").write_text("{}")

    def save(self, folder: Path) -> None:
        folder.mkdir()
        (folder / "state").write_text("")


class FakeCommands:
    """Goes on until `stop` is set, at most 1,000 times."""

    def __init__(self) -> None:
        self.stop: Exception | None = None
        self.checks = 0

    async def check(self) -> None:
        self.checks += 1
        if self.stop is not None:
            raise self.stop
        if self.checks > 1_000:
            raise JobFailed("the loop does not end")

    async def check_epoch(self) -> None: ...


class Beating:
    """A pipeline that is asked for heartbeats: everybody's heart beats."""

    def __init__(self) -> None:
        self._asked = 0

    async def __aenter__(self) -> Beating:
        return self

    async def __aexit__(self, *error: object) -> None: ...

    def exists(self, key: str) -> None:
        self._asked += 1

    async def execute(self) -> list[int]:
        return [1] * self._asked


class WatchedRedis:
    """Where one replica that serves the job, and one instance of every service, are live."""

    async def hgetall(self, key: str) -> dict[bytes, bytes]:
        status = ReplicaStatus(replica="r", job_id=JOB, version=0, engine="fake", state="serving")
        return {b"r": status.model_dump_json().encode()} if key == keys.REPLICAS else {}

    def pipeline(self, *, transaction: bool) -> Beating:
        return Beating()

    async def smembers(self, key: str) -> set[bytes]:
        return set()

    async def scan_iter(self, pattern: str, count: int) -> AsyncIterator[bytes]:
        yield pattern.encode()


@dataclass
class Loop:
    """A session and what surrounds it."""

    session: Session
    script: Script
    ledger: Any
    """A `FakeLedger` or the real one."""

    def at_version(self, version: int) -> None:
        """Batches below it were trained and published."""
        self.session.progress.batch = version

    def succeed(self) -> None:
        """Another trainer takes the job up at its newest checkpoint."""
        old, progress = self.session, newest_complete(self.session.folder.checkpoints)[1]
        self.session = replace(
            old,
            progress=progress,
            queue=TrainingQueue(old.spec, next_cursor=progress.next_cursor, lost=progress.lost),
            consumption=Consumption(self.ledger, EPOCH, progress.batch),
            playability=Playability(),
        )

    def with_spec(self, spec: JobSpec) -> None:
        """Another job, before anything was opened."""
        self.session = replace(self.session, spec=spec, queue=TrainingQueue(spec))


def fake_loop(folder: Path, spec: JobSpec | None = None) -> Loop:
    """A loop without any I/O but that of `folder`."""
    spec, script, ledger = spec or loop_spec(), Script(), FakeLedger()
    parts: dict[str, Any] = {
        "environment": EnvironmentInfo(id="grid"),
        "settings": SimpleNamespace(),
        "redis": WatchedRedis(),
        "ledger": ledger,
        "events": FakeEvents(),
        "arrivals": FakeArrivals(ledger, script),
        "stored": FakeStored(ledger, script),
        "commands": FakeCommands(),
    }
    return Loop(loop_session(folder, spec, parts), script, ledger)


def loop_session(folder: Path, spec: JobSpec, parts: dict[str, Any]) -> Session:
    """A session that begins a job, around these parts."""
    tracking: Any = SimpleNamespace(evaluation=_nothing, batch=_nothing)
    learner: Any = FakeLearner()
    return Session(
        job=JOB,
        spec=spec,
        folder=JobFolder.of(folder, JOB),
        epoch=EPOCH,
        learner=learner,
        progress=Progress(),
        tracking=tracking,
        queue=TrainingQueue(spec),
        consumption=Consumption(parts["ledger"], EPOCH),
        playability=Playability(),
        evaluations=[],
        **parts,
    )


async def _nothing(_: object) -> None: ...
