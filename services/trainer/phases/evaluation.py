"""Evaluations: sampled success of one pinned policy version on a panel of held-out tasks."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from services.contracts import ids
from services.contracts.archive import packed
from services.contracts.events import Evaluated, Phase
from services.contracts.ids import Purpose
from services.contracts.jobfolder import JobFolder
from services.contracts.json_records import EVALUATION
from services.contracts.messages import Episode, OpenedGroup
from services.contracts.origin import TakenOver
from services.contracts.summary import EvaluationResult, PanelResult
from services.contracts.task_panel import PanelOutcome, mixed_outcome, panel_outcome, panel_task
from services.trainer.batch.drops import crashes_of
from services.trainer.batch.mismatch import warn_of_mismatch
from services.trainer.errors import JobFailed, NothingPlayed
from services.trainer.groups.payloads import Payload
from services.trainer.groups.settlement import Settlement, SettlementKind
from services.trainer.learner.rows import rows_of
from services.trainer.phases.one_off_groups import consume_gathered, gather, settle_results
from services.trainer.phases.phase_progress import PhaseProgress
from services.trainer.session.session import Session
from services.trainer.session.writing import written
from services.trainer.storage.folders import write_durably

Label = Literal["before", "after", "during", "task_hidden", "task_shuffled", "random_actor"]

ROUNDS: dict[Label, int] = {"before": 0, "after": 1, "task_hidden": 2, "task_shuffled": 3, "random_actor": 4}
FIRST_DURING = 16
"""Rounds name the groups of an evaluation; that of version v during training is 16 + v."""


@dataclass(frozen=True)
class Panel:
    """Who plays what on the panel."""

    label: Label
    version: int
    actor: str
    task_view: str

    @property
    def round(self) -> int:
        return FIRST_DURING + self.version if self.label == "during" else ROUNDS[self.label]


def panel(label: Label, version: int, task_view: str) -> Panel:
    """The panel of an evaluation; `task_view` is the job's own, which the baselines replace."""
    views = {"task_hidden": "hidden", "task_shuffled": "shuffled"}
    actor = "random" if label == "random_actor" else "policy"
    return Panel(label, version, actor, views.get(label, task_view))


async def evaluate(session: Session, label: Label) -> EvaluationResult:
    """Measure the current policy version once; asked again it returns the stored result.

    Nothing is trained or published meanwhile, so every step is sampled by that version.

    Raises:
        NothingPlayed: no episode could be played; of a random actor, which may lack admissible actions, the first.
        JobFailed: none came for batch_timeout_s, or the engine serves other weights than it says.
        CancelRequested, PauseRequested, DrainRequested, StaleEpoch.
    """
    chosen = panel(label, session.progress.batch, session.spec.environment.task_view)
    groups = panel_groups(session, chosen)
    names = [group.group_id for group in groups]
    stored = find_result(session.evaluations, label, chosen.version)
    if stored is None:
        details = {"label": label, "version": chosen.version}
        progress = PhaseProgress(session.events, Phase.EVALUATION, len(groups), "episodes", **details)
        await progress.reached(0)
        what = f"evaluation {label}"
        playable = chosen.actor != "random" or await gather(session, groups[:1], what)
        payloads = await gather(session, groups, what, progress.reached) if playable else []
        episodes = [episode for payload in payloads for episode in payload.episodes]
        if not episodes:
            cause = session.playability.last_cause or "no cause is known"
            raise NothingPlayed(f"{what}: none of {len(groups)} episodes could be played: {cause}")
        lost = {*names} - {payload.group_id for payload in payloads}
        crashed = {name for name in sorted(lost) if await crashes_of(session, name) > 0}
        mismatch_kl = _mismatch(session, payloads)
        await warn_of_mismatch(session, what, mismatch_kl)
        stored = panel_result(session, chosen, groups, payloads, crashed, mismatch_kl)
        path = session.folder.evaluation_rollouts(label, chosen.version)
        archive = packed([group.encoded for group in payloads])
        await written(session, what, lambda: write_durably(path, archive))
        results = [*session.evaluations, stored]
        await written(session, what, lambda: write_results(session.folder, results))
        session.evaluations.append(stored)
        await session.events.add(Evaluated(result=stored))
        await session.tracking.evaluation(stored)
    settlement = Settlement(SettlementKind.EVALUATION, chosen.round)
    await consume_gathered(session, settlement, names)
    if chosen.version > taken_over_at(session.folder):
        await settle_results(session, settlement, names)
    return stored


def panel_groups(session: Session, chosen: Panel) -> list[OpenedGroup]:
    """One group of one episode per task; every label and version plays the same tasks.

    Each member of a mixture has the panel that a job of it alone would have.
    """
    spec = session.spec
    count, fingerprint = spec.evaluation.eval_episodes, spec.fingerprint()
    seeds = [ids.task_seed(spec.evaluation.eval_seed, Purpose.EVALUATION, place) for place in range(count + 1)]
    return [
        OpenedGroup(
            job_id=session.job,
            group_id=ids.group_id(fingerprint, Purpose.EVALUATION, chosen.round, first + place),
            purpose=Purpose.EVALUATION,
            cursor=first + place,
            task_seed=seeds[place],
            member=member,
            environment_kwargs=dict(part.environment.row(seeds[place])),
            split=part.environment.eval_split,
            n=1,
            min_version=chosen.version,
            actor=chosen.actor,
            task_view=chosen.task_view,
            # the next task's sentence, so that each is shown once and none beside its own world
            sentence_seed=seeds[place + 1] if chosen.task_view == "shuffled" else None,
        )
        for first, (member, part) in zip(itertools.count(0, count), spec.parts.items(), strict=False)
        for place in range(count)
    ]


def panel_result(
    session: Session,
    chosen: Panel,
    groups: Sequence[OpenedGroup],
    payloads: Sequence[Payload],
    crashed: Collection[str],
    mismatch_kl: float | None = None,
) -> EvaluationResult:
    """The figures of at least one payload; of a mixture those of each member too, where an episode of it was played.

    Args:
        crashed: ids of groups that were lost because each attempt crashed its environment.
    """
    found = {payload.group_id: payload.episodes for payload in payloads}
    members: dict[str, PanelResult] = {}
    panels: list[PanelOutcome] = []
    for member in session.spec.parts:
        mine = [group for group in groups if group.member == member]
        played = played_panel(session, mine, payloads, crashed)
        panels.append(played)
        episodes = [episode for group in mine for episode in found.get(group.group_id, ())]
        if member and episodes:
            lost = sum(group.group_id in crashed for group in mine)
            part = session.spec.part(member).environment.eval_split
            members[member] = PanelResult(**_figures(episodes, part, None, lost, played))
    episodes = [episode for payload in payloads for episode in payload.episodes]
    whole = panels[0] if len(panels) == 1 and not members else mixed_outcome(panels)
    split = session.spec.environment.eval_split
    return evaluation_result(chosen, episodes, split, mismatch_kl, len(crashed), whole, members=members)


def played_panel(
    session: Session, groups: Sequence[OpenedGroup], payloads: Sequence[Payload], crashed: Collection[str] = ()
) -> PanelOutcome:
    """The panel that these groups of one member are, and what became of its tasks.

    Args:
        crashed: ids of groups that were lost because each attempt crashed its environment.
    """
    found = {payload.group_id: payload.episodes[0] for payload in payloads}
    tasks = [
        panel_task(group.task_seed, found.get(group.group_id), crashed=group.group_id in crashed) for group in groups
    ]
    member = groups[0].member
    return panel_outcome(session.spec.part(member), session.environment.part(member), tasks)


def _mismatch(session: Session, payloads: Sequence[Payload]) -> float | None:
    """How far engine and trainer are apart on the tokens that the current version sampled; None: it sampled none."""
    rows = [row for payload in payloads for row in rows_of(payload.episodes, payload.scored)]
    sampled = [row for row in rows if row.versions and min(row.versions) == session.progress.batch]
    return session.learner.mismatch(sampled)["mismatch_kl"] if sampled else None


def evaluation_result(
    chosen: Panel,
    episodes: Sequence[Episode],
    split: str,
    mismatch_kl: float | None = None,
    lost: int = 0,
    played: PanelOutcome | None = None,
    *,
    members: Mapping[str, PanelResult] = MappingProxyType({}),
) -> EvaluationResult:
    """The figures of at least one episode.

    Args:
        lost: tasks whose episode crashed its environment in each attempt.
        played: the panel's id and outcomes.
        members: of a mixture.
    """
    figures = _figures(episodes, split, mismatch_kl, lost, played)
    return EvaluationResult(label=chosen.label, version=chosen.version, members=dict(members), **figures)


def _figures(
    episodes: Sequence[Episode], split: str, mismatch_kl: float | None, lost: int, played: PanelOutcome | None
) -> dict[str, Any]:
    """Fields of a `PanelResult`."""
    steps = [step for episode in episodes for step in episode.steps]
    tasks = len(episodes) + lost
    success = sum(episode.won and not episode.crashes for episode in episodes) / tasks
    return {
        "episodes": tasks,
        "success": success,
        "standard_error": math.sqrt(success * (1 - success) / tasks),
        "return_mean": math.fsum(step.reward for step in steps) / len(episodes),
        "length_mean": len(steps) / len(episodes),
        "invalid_share": sum(not step.action_valid for step in steps) / max(len(steps), 1),
        "split": split,
        "crashed": lost + sum(episode.crashes > 0 for episode in episodes),
        "mismatch_kl": mismatch_kl,
        "panel": played.id if played else None,
        "outcomes": played.outcomes if played else "",
    }


def find_result(results: Sequence[EvaluationResult], label: str, version: int) -> EvaluationResult | None:
    """The stored result of a label at a version."""
    return next((one for one in results if (one.label, one.version) == (label, version)), None)


def taken_over_at(folder: JobFolder) -> int:
    """Version at which the job took a training over, whose results up to there count in another ledger; -1: none."""
    if not folder.origin.exists():
        return -1
    return int(TakenOver.model_validate_json(folder.origin.read_bytes()).checkpoint.removeprefix("b"))


def write_results(folder: JobFolder, results: Sequence[EvaluationResult]) -> None:
    """Make the results durable; their groups may be consumed then."""
    documents = [EVALUATION.versioned(result.model_dump()) for result in results]
    write_durably(folder.evaluations, json.dumps(documents, indent=2).encode())


def read_results(folder: JobFolder) -> list[EvaluationResult]:
    """The results that an earlier trainer made durable, of any version.

    Raises:
        JobFailed: the file is none, or a newer release wrote it.
    """
    if not folder.evaluations.exists():
        return []
    try:
        documents = json.loads(folder.evaluations.read_bytes())
        return [EvaluationResult.model_validate(EVALUATION.fields(one)) for one in documents]
    except (TypeError, ValueError) as error:
        raise JobFailed(f"evaluations.json can't be read: {error}") from error
