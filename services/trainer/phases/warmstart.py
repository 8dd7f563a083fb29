"""The format warm start: random admissible actions are played, and the policy learns the reply format; the gate."""

from __future__ import annotations

import math
import time

from gigpo_core import Turn
from services.contracts import ids
from services.contracts.events import Phase
from services.contracts.ids import Purpose
from services.contracts.job import WarmStart
from services.contracts.messages import OpenedGroup
from services.contracts.summary import EvaluationResult
from services.trainer.errors import JobFailed
from services.trainer.groups.payloads import Payload
from services.trainer.groups.settlement import Settlement, SettlementKind
from services.trainer.learner.rows import supervised_turns
from services.trainer.phases.one_off_groups import consume_gathered, gather
from services.trainer.phases.phase_progress import PhaseProgress
from services.trainer.replicas.compute import computing
from services.trainer.session.saving import save_checkpoint
from services.trainer.session.session import Session


async def warm_start(session: Session, warmstart: WarmStart) -> None:
    """Gather random steps, learn them, checkpoint; does nothing when a checkpoint holds it already.

    Raises:
        JobFailed: no valid step was gathered, or none came for batch_timeout_s.
        CancelRequested, PauseRequested, DrainRequested, StaleEpoch.
    """
    if session.progress.warmstarted:
        return
    started = time.monotonic()
    async with computing(session, "warmstart"):
        payloads = await _gather_steps(session, warmstart)
        turns = supervised_turns([episode for payload in payloads for episode in payload.episodes])
        if not turns:
            raise JobFailed("warm start: the random actor played no valid step")
        report = await _learn(session, warmstart, turns[: warmstart.warmstart_rows])
    session.progress.warmstarted = True
    session.progress.spend("warmstart", time.monotonic() - started)
    await session.events.phase(Phase.WARMSTART, **report)
    practised = [payload.group_id for payload in payloads]
    await save_checkpoint(session, practised)
    await consume_gathered(session, Settlement(SettlementKind.WARM_START), practised)


async def _gather_steps(session: Session, warmstart: WarmStart) -> list[Payload]:
    """Waves of groups until there are enough steps; how many depends on the episodes' lengths alone."""
    payloads: list[Payload] = []
    steps = cursor = 0
    length = float(session.spec.environment.max_turns)
    rows = warmstart.warmstart_rows
    progress = PhaseProgress(session.events, Phase.WARMSTART, rows, "steps played", doing="playing", rows=rows)
    await progress.reached(0)

    async def arrived_so_far(episodes: int) -> None:
        await progress.reached(steps + int(episodes * length))

    while steps < warmstart.warmstart_rows:
        count = math.ceil((warmstart.warmstart_rows - steps) / length)
        wave = [random_group(session, warmstart, at) for at in range(cursor, cursor + count)]
        arrived = await gather(session, wave, "warm start", arrived_so_far)
        if not arrived:
            raise JobFailed(f"warm start: none of {count} episodes could be played: {session.playability.last_cause}")
        cursor += count
        payloads += arrived
        steps = sum(len(episode.steps) for payload in payloads for episode in payload.episodes)
        length = max(steps / len(payloads), 1.0)
    return payloads


async def _learn(session: Session, warmstart: WarmStart, turns: list[Turn]) -> dict[str, float]:
    total = warmstart.warmstart_steps
    progress = PhaseProgress(session.events, Phase.WARMSTART, total, "optimizer steps", doing="learning")
    await progress.reached(0)
    steps = session.learner.supervise(turns, warmstart)
    while True:
        try:
            done, _ = next(steps)
        except StopIteration as end:
            report: dict[str, float] = end.value
            return report
        await progress.reached(done)


def random_group(session: Session, warmstart: WarmStart, cursor: int) -> OpenedGroup:
    """One practice episode of a random admissible actor."""
    spec, seed = session.spec, ids.task_seed(session.spec.training.seed, Purpose.WARMSTART, cursor)
    member = spec.member_at(Purpose.WARMSTART, cursor)
    environment = spec.part(member).environment
    return OpenedGroup(
        job_id=session.job,
        group_id=ids.group_id(spec.fingerprint(), Purpose.WARMSTART, 0, cursor),
        purpose=Purpose.WARMSTART,
        cursor=cursor,
        task_seed=seed,
        member=member,
        split=environment.train_split,
        n=1,
        min_version=0,
        actor="random",
        task_view=spec.environment.task_view,
        environment_kwargs={**environment.row(seed), **warmstart.warmstart_environment_kwargs},
    )


def check_gate(warmstart: WarmStart, before: EvaluationResult) -> None:
    """Training may begin only when the policy knows the format.

    Raises:
        JobFailed: it gives too many invalid actions on fresh tasks.
    """
    if before.invalid_share > warmstart.warmstart_max_invalid:
        raise JobFailed(
            f"the warm start did not teach the format: {before.invalid_share:.1%} of the actions on {before.episodes} "
            f"fresh tasks are invalid, want at most warmstart_max_invalid = {warmstart.warmstart_max_invalid:.1%}; "
            "raise warmstart_steps or warmstart_rows"
        )
