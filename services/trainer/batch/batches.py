"""Batches of training groups: open them ahead, wait for their scores, cut them."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass

from services.contracts import ids
from services.contracts.ids import Purpose
from services.contracts.job import JobSpec
from services.contracts.messages import OpenedGroup
from services.ledger import DropReason, GroupState
from services.trainer.batch.drops import last_trouble, note_arrivals
from services.trainer.batch.second_stage import scored_together
from services.trainer.errors import JobFailed
from services.trainer.groups.payloads import Payload
from services.trainer.groups.playability import FIRST_GROUPS
from services.trainer.learner.errors import LearnerError
from services.trainer.learner.port import Divergences, Rescoring
from services.trainer.learner.rows import rows_of
from services.trainer.replicas.room import check_capacity
from services.trainer.session.deadline import Deadline
from services.trainer.session.opening import open_group
from services.trainer.session.session import Session


@dataclass(frozen=True)
class Batch:
    """The groups of one optimizer batch, in order of cursor."""

    number: int
    """Number of the batch and of the policy version that trains it."""
    groups: list[Payload]
    kl: list[list[float]] | None = None
    """KL that was taken from the reward, of each row of each group, see `Learner.divergence`; None: none was. In the
    manifest, because another machine may round it differently."""
    scoring_s: float = 0.0
    """Seconds that the trainer itself took to score the groups once more; no wait for them."""
    passed_over: int = 0
    """Groups opened before one of these that are still played, or wait for a later batch."""
    crashes: int = 0
    """Attempts of groups that were dropped since the batch before, each of an episode that crashed its environment."""

    @property
    def group_ids(self) -> list[str]:
        return [group.group_id for group in self.groups]

    def manifest(self) -> str:
        """The batch's exact content, so that a successor can train it again: ids in order, hashes of the payloads."""
        groups = [
            {
                "id": group.group_id,
                "cursor": group.scored.cursor,
                "episodes_sha": group.scored.episodes_sha,
                "scores_sha": group.scores_sha,
            }
            for group in self.groups
        ]
        kl = {} if self.kl is None else {"kl": self.kl}
        passed_over = {"passed_over": self.passed_over} if self.passed_over else {}
        return json.dumps({"batch": self.number, "groups": groups, **kl, **passed_over}, sort_keys=True)


def training_group(session: Session, cursor: int) -> OpenedGroup:
    """The training group at a cursor: its task depends on the job's seed and the cursor, on nothing else."""
    spec, seed = session.spec, ids.task_seed(session.spec.training.seed, Purpose.TRAINING, cursor)
    member = spec.member_at(Purpose.TRAINING, cursor)
    environment = spec.part(member).environment
    return OpenedGroup(
        job_id=session.job,
        group_id=ids.group_id(spec.fingerprint(), Purpose.TRAINING, 0, cursor),
        purpose=Purpose.TRAINING,
        cursor=cursor,
        task_seed=seed,
        member=member,
        environment_kwargs=dict(environment.row(seed)),
        split=environment.train_split,
        n=spec.rollout.num_generations,
        min_version=session.progress.batch,  # served by now, and never too old for the batches admitted by it
        task_view=spec.environment.task_view,
    )


async def open_due_groups(session: Session) -> None:
    """Open every group that may be opened by now; opening one again changes nothing. Raises StaleEpoch."""
    while (cursor := session.queue.next_due(session.progress.batch)) is not None:
        await open_cursor(session, cursor)


async def open_cursor(session: Session, cursor: int) -> None:
    """Open one training group, or learn what became of it when an earlier trainer opened it."""
    group = training_group(session, cursor)
    state = await open_group(session, group)
    session.queue.opened(cursor, group.group_id, state)


async def next_batch(session: Session) -> Batch:
    """Wait for the next batch's groups and assign them to it; replaces what is dropped meanwhile.

    Raises:
        JobFailed: no group was scored for batch_timeout_s, with the groups that are missing; or none can be played.
        NoReplicaFree: none was scored, and a service is missing that would play or serve it.
        CancelRequested, PauseRequested, DrainRequested, StaleEpoch.
    """
    deadline, began_unix_s = Deadline(session.spec.limits.batch_timeout_s), time.time()
    algorithm = session.spec.algorithm
    resamples_left = algorithm.max_resample_times if algorithm.dynamic_sample else 0
    while True:
        await open_due_groups(session)
        if (wanted := session.queue.next_batch()) is not None:
            if batch := await _cut(session, wanted, resample=resamples_left > 0):
                return batch
            resamples_left -= 1
            continue
        await session.commands.check()
        if await _note_arrivals(session):
            deadline.restart()
        elif deadline.passed:
            await check_capacity(session.redis, session.job)
            trouble = await last_trouble(session, began_unix_s)
            raise JobFailed(f"{await _who_is_missing(session, sorted(session.queue.missing()))}{trouble}")


def last_cursor(manifest: str) -> int:
    """The highest cursor in a batch."""
    return max(int(group["cursor"]) for group in json.loads(manifest)["groups"])


def is_manifest(number: int, text: str) -> bool:
    """Whether the text is the manifest of this batch, and not what somebody else left under its number."""
    try:
        return bool(json.loads(text)["batch"] == number and last_cursor(text) >= 0)
    except (ValueError, LookupError, TypeError, RecursionError):
        return False


async def load_manifest(session: Session, number: int, manifest: str) -> Batch:
    """The batch that an earlier trainer assigned.

    Raises:
        JobFailed: the stored payloads are not those of the manifest.
    """
    assigned = json.loads(manifest)
    named, kl = assigned["groups"], assigned.get("kl")
    groups = await session.stored.load([group["id"] for group in named])
    trained = as_trained(groups, session.spec, session.learner.rescored, kl)
    batch = Batch(number, trained, kl, passed_over=assigned.get("passed_over", 0))
    if json.loads(batch.manifest())["groups"] != named:
        raise JobFailed(f"batch {number}: the stored groups are not those of its manifest")
    return batch


def as_trained(
    groups: Sequence[Payload], spec: JobSpec, rescored: Rescoring, kl: Divergences | None = None
) -> list[Payload]:
    """The groups of a batch with the scores that it is trained with.

    Args:
        rescored: of the learner.
        kl: see `Batch.kl`.

    Raises:
        JobFailed: they cannot be scored together.
    """
    try:
        return scored_together(groups, spec, rescored, kl)
    except LearnerError as error:
        raise JobFailed(f"the batch cannot be scored: {error}") from error


def _divergence(session: Session, groups: Sequence[Payload]) -> list[list[float]] | None:
    """The KL of each group's rows under the weights that the batch will be trained from; None where no reward has it.

    Raises:
        JobFailed: a group's rows can't be read.
    """
    if not session.spec.algorithm.subtracts_kl:
        return None
    try:
        rows = [rows_of(group.episodes, group.scored) for group in groups]
        values = iter(session.learner.divergence([row for group in rows for row in group]))
    except LearnerError as error:
        raise JobFailed(f"the KL of the batch cannot be computed: {error}") from error
    return [[next(values) for _ in group] for group in rows]


async def _note_arrivals(session: Session) -> bool:
    """Wait for news of every group under way, also those of later batches; whether one of them was scored.

    A dropped group is no progress: where every group fails, the job must end with the cause.
    """
    arrived = await session.arrivals.wait(session.epoch, session.queue.unscored())
    session.queue.scored(name for name, state in arrived.items() if state is GroupState.SCORED)
    first = [training_group(session, cursor).group_id for cursor in range(FIRST_GROUPS)]
    for name, drop in (await note_arrivals(session, arrived, Purpose.TRAINING, first)).items():
        cursor = session.queue.lose(name)
        await session.events.count(f"group {name} was dropped and is replaced ({drop.reason}): {drop.cause}")
        opened, under_way = session.queue.next_cursor, len(session.queue.cursors)
        session.playability.broken(cursor, drop.reason, drop.cause, opened=opened, under_way=under_way)
    return GroupState.SCORED in arrived.values()


async def _cut(session: Session, wanted: Sequence[str], *, resample: bool) -> Batch | None:
    """Assign the batch; None when groups of it were dropped instead: too old, or flat ones while `resample` holds."""
    number = session.progress.batch
    groups = await session.stored.load(wanted)
    too_old = [group for group in groups if staleness(group, number) > session.spec.rollout.max_staleness]
    flat = [group for group in groups if resample and teaches_nothing(group) and group not in too_old]
    if too_old:
        await session.events.warn(f"{len(too_old)} groups were older than max_staleness allows and are replaced")
    for reason, unfit in ((DropReason.STALE, too_old), (DropReason.FILTERED, flat)):
        for group in unfit:
            await session.ledger.drop(session.epoch, group.group_id, reason)
            session.queue.lose(group.group_id)
    if too_old or flat:
        return None
    began = time.monotonic()
    kl = _divergence(session, groups)
    trained = as_trained(groups, session.spec, session.learner.rescored, kl)
    batch = Batch(
        number,
        trained,
        kl,
        scoring_s=time.monotonic() - began,
        passed_over=session.queue.passed_over(wanted),
        crashes=session.playability.take_crashes(),
    )
    await session.ledger.assign(session.epoch, number, batch.manifest(), batch.group_ids)
    session.queue.cut(batch.group_ids)
    return batch


def staleness(group: Payload, version: int) -> int:
    """Policy versions between the group's oldest token and `version`; 0 for a group without tokens."""
    return version - min(group.versions(), default=version)


def teaches_nothing(group: Payload) -> bool:
    """Every episode has one return, so no episode-level advantage (DAPO's dynamic sampling)."""
    return group.scored.diagnostics["return_spread"] == 0.0


async def _who_is_missing(session: Session, missing: Sequence[str]) -> str:
    words = []
    for name in missing[:8]:
        record = await session.ledger.record_of(name)
        state = f"{record.state.value}, attempt {record.attempt}" if record else "unknown to the ledger"
        cause = f", last fault: {record.cause}" if record and record.cause else ""
        words.append(f"{name} ({state}{cause})")
    more = f" and {len(missing) - 8} more" if len(missing) > 8 else ""
    wanted, timeout_s = session.spec.rollout.groups_per_batch, session.spec.limits.batch_timeout_s
    return (
        f"batch {session.progress.batch}: {len(missing)} of {wanted} groups are missing, "
        f"and none arrived within batch_timeout_s = {timeout_s:g} s: {'; '.join(words)}{more}"
    )
