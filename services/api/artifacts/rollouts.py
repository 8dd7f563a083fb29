"""Trained groups, read from the trainer's archive: observations, actions, and the reasons for each step's advantage."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import msgspec
from tokenizers import Tokenizer

from services.api.rest.problems import Problem, not_found
from services.contracts.archive import ArchiveName, Encoded, Group, decoded, encoded_groups, read_archive
from services.contracts.arrays import unpack_float32, unpack_float64, unpack_int32, unpack_int64
from services.contracts.jobfolder import JobFolder
from services.contracts.messages import ContractError, Episode, Message, ScoredGroup, Step, decode_view
from services.contracts.rest.positions import cut
from services.contracts.rest.rollouts import (
    EpisodeView,
    Panel,
    RolloutBrief,
    RolloutDetail,
    RolloutPage,
    RolloutPurpose,
    StepMember,
    StepView,
)
from services.contracts.tokenizer_files import tokenizer_in

_KEPT_INDEXES = 4_096

_FIGURES = ("advantage", "episode_advantage", "step_advantage", "step_return")
_COPIED = sorted(StepView.model_fields.keys() & set(Step.__struct_fields__) - {"versions"})
"""Fields of a step that are shown as they are."""

Words = Callable[[list[int]], str]


@dataclass(frozen=True)
class Columns:
    """A group's scores, one entry a step in order of (k, step_index)."""

    advantage: list[float]
    episode_advantage: list[float]
    step_advantage: list[float]
    step_return: list[float]
    step_group: list[int]

    @staticmethod
    def of(scored: ScoredGroup) -> Columns:
        """The numbers in a group's bytes."""
        floats = {name: unpack_float64(getattr(scored, name)) for name in _FIGURES}
        return Columns(**floats, step_group=unpack_int64(scored.step_group))


@dataclass(frozen=True)
class Archive:
    """One file of groups."""

    path: Path
    batch: int
    """Number of the trained batch; of an evaluation the policy version it measured."""
    label: str | None = None
    """The label of the evaluation; None: a trained batch."""


@dataclass(frozen=True)
class RolloutFilter:
    """Which groups a list shows; None means any."""

    purpose: RolloutPurpose = "training"
    batch: int | None = None
    label: str | None = None
    won: Literal["all", "some", "none"] | None = None
    min_length: int | None = None
    """Its longest episode has at least so many steps."""
    max_length: int | None = None
    """Its shortest episode has at most so many steps."""

    def takes_file(self, archive: Archive) -> bool:
        trained = archive.label is None
        fits = self.batch in (None, archive.batch) and self.label in (None, archive.label)
        return fits and trained == (self.purpose == "training")

    def takes(self, brief: RolloutBrief) -> bool:
        wins = {"all": brief.won == brief.episodes, "none": brief.won == 0, "some": 0 < brief.won < brief.episodes}
        return (
            (self.won is None or wins[self.won])
            and (self.min_length is None or max(brief.steps, default=0) >= self.min_length)
            and (self.max_length is None or min(brief.steps, default=0) <= self.max_length)
        )


class _BriefStep(msgspec.Struct, frozen=True):
    """The fields of a `Step` that a list of groups needs: the rest is skipped, not decoded."""

    reward: float


class _BriefEpisode(Message, frozen=True, kw_only=True):
    task: str
    won: bool
    steps: list[_BriefStep]


class _BriefScores(Message, frozen=True, kw_only=True):
    group_id: str
    cursor: int


class RolloutArchive:
    """Reads the archives of all jobs; keeps in memory which group lies in which file."""

    def __init__(self) -> None:
        self._briefs: OrderedDict[tuple[Path, int, int], list[RolloutBrief]] = OrderedDict()

    def batches(self, folder: Path) -> list[int]:
        """Numbers of the archived trained batches, in order."""
        return [archive.batch for archive in archives_of(folder) if archive.label is None]

    def page(
        self, folder: Path, wanted: RolloutFilter, *, offset: int, limit: int, newest_first: bool = False
    ) -> RolloutPage:
        """At most `limit` groups in order of batch and cursor, or the newest batch first; no file more than needed is
        read. Raises Problem 404 for a batch that is not archived."""
        archives = archives_of(folder)
        files = [archive for archive in archives if wanted.takes_file(archive)]
        if newest_first:
            files.reverse()
        if not files and wanted.batch is not None:
            raise not_found("archived batch", str(wanted.batch))
        found: list[RolloutBrief] = []
        for archive in files:
            found += [brief for brief in self._briefs_of(archive) if wanted.takes(brief)]
            if len(found) > offset + limit:
                break
        items, following = cut(found, offset, limit)
        return RolloutPage(
            items=items,
            batches=[archive.batch for archive in archives if archive.label is None],
            panels=[Panel(label=one.label, version=one.batch) for one in archives if one.label is not None],
            next_cursor=following,
        )

    def detail(self, folder: Path, group_id: str) -> RolloutDetail:
        """One group with every step. Raises Problem 404."""
        brief, (scored, episodes) = self.group(folder, group_id)
        return _detail(brief, scored, episodes, _words(folder))

    def group(self, folder: Path, group_id: str) -> tuple[RolloutBrief, Group]:
        """One group, as lists show it and whole; its neighbours in the archive are not decoded. Raises Problem 404."""
        for archive in reversed(archives_of(folder)):
            for position, brief in enumerate(self._briefs_of(archive)):
                if brief.group_id == group_id:
                    with readable(archive.path):
                        return brief, decoded(encoded_groups(archive.path)[position])
        raise not_found("rollout", group_id)

    def groups(self, folder: Path, batch: int | None) -> tuple[int, list[Group]]:
        """A trained batch, None: the newest, and its groups. Raises Problem 404."""
        files = {archive.batch: archive.path for archive in archives_of(folder) if archive.label is None}
        number = max(files, default=None) if batch is None else batch
        if number is None or number not in files:
            raise not_found("archived batch", "newest" if number is None else str(number))
        with readable(files[number]):
            return number, read_archive(files[number])

    def _briefs_of(self, archive: Archive) -> list[RolloutBrief]:
        with readable(archive.path):
            state = archive.path.stat()  # a batch that is trained again is another file of the same name
            key = archive.path, state.st_mtime_ns, state.st_size
            if (kept := self._briefs.get(key)) is not None:
                return kept
            briefs = [_brief(archive, encoded) for encoded in encoded_groups(archive.path)]
        self._briefs[key] = briefs
        if len(self._briefs) > _KEPT_INDEXES:
            self._briefs.popitem(last=False)
        return briefs


def archives_of(folder: Path) -> list[Archive]:
    """Trained batches in order, then evaluations by version and label."""
    named = ((path, ArchiveName.of(path.name)) for path in JobFolder(folder).archives.glob("*.zlib"))
    found = [Archive(path, name.number, name.label) for path, name in named if name is not None]
    return sorted(found, key=lambda archive: (archive.label is not None, archive.batch, archive.label or ""))


@contextmanager
def readable(path: Path) -> Iterator[None]:
    try:
        yield
    except ContractError as error:
        raise Problem(500, f"the archive {path.name} cannot be read: {error}") from error


def _brief(archive: Archive, encoded: Encoded) -> RolloutBrief:
    scored = decode_view(encoded[0], ScoredGroup, _BriefScores)
    episodes = [decode_view(one, Episode, _BriefEpisode) for one in encoded[1]]
    returns = [sum(step.reward for step in episode.steps) for episode in episodes]
    return RolloutBrief(
        group_id=scored.group_id,
        purpose="training" if archive.label is None else "evaluation",
        batch=archive.batch,
        label=archive.label,
        cursor=scored.cursor,
        task=episodes[0].task if episodes else "",
        episodes=len(episodes),
        won=sum(episode.won for episode in episodes),
        return_mean=sum(returns) / max(len(returns), 1),
        steps=[len(episode.steps) for episode in episodes],
    )


def _detail(brief: RolloutBrief, scored: ScoredGroup, episodes: list[Episode], words: Words) -> RolloutDetail:
    rows = [(episode.k, step.step_index) for episode in episodes for step in episode.steps]
    columns = Columns.of(scored)
    labels = columns.step_group
    members: dict[int, list[StepMember]] = {}
    for label, (k, step_index) in zip(labels, rows, strict=True):
        members.setdefault(label, []).append(StepMember(k=k, step_index=step_index))
    views, row = [], 0
    for episode in episodes:
        steps = []
        for step in episode.steps:
            figures = {name: getattr(columns, name)[row] for name in _FIGURES}
            steps.append(_step(step, words, labels[row], members[labels[row]], figures))
            row += 1
        views.append(_episode(episode, steps))
    return RolloutDetail(**brief.model_dump(), diagnostics=scored.diagnostics, played=views)


def _episode(episode: Episode, steps: list[StepView]) -> EpisodeView:
    return EpisodeView(
        episode_id=episode.episode_id,
        k=episode.k,
        attempt=episode.attempt,
        task=episode.task,
        won=episode.won,
        score=episode.score,
        terminated=episode.terminated,
        truncated=episode.truncated,
        steps=steps,
    )


def _step(step: Step, words: Words, label: int, members: list[StepMember], figures: dict[str, float]) -> StepView:
    return StepView(
        **{name: getattr(step, name) for name in _COPIED},
        prompt=words(unpack_int32(step.prompt_ids)),
        response=words(unpack_int32(step.response_ids)),
        versions=sorted(set(unpack_int32(step.versions))),
        logprob_sum=sum(unpack_float32(step.logprobs)),
        step_group=label,
        step_group_members=members,
        **figures,
    )


def _words(folder: Path) -> Words:
    """Token ids as the tokenizer of the job's policy writes them; as numbers where it cannot be read."""
    base = JobFolder(folder).base
    try:
        tokenizer = _tokenizer(base, (base / "tokenizer.json").stat().st_mtime_ns)
    except Exception:  # noqa: BLE001 - what the library raises for a file that is missing or is no tokenizer
        return lambda ids: " ".join(map(str, ids))
    return lambda ids: str(tokenizer.decode(ids, skip_special_tokens=False))


@lru_cache(maxsize=4)
def _tokenizer(base: Path, _changed_ns: int) -> Tokenizer:
    """Kept, since reading a vocabulary of 150,000 takes half a second."""
    return tokenizer_in(base)
