"""Trained groups, read from the trainer's archive: what the agent saw and did, and why each step got its advantage.

Format of `rollouts/batch-00001.msgpack.zlib`: zlib over a msgpack array with one entry per group, in order of cursor:
[`ScoredGroup` payload, [`Episode` payload, ... in order of k]].
"""

from __future__ import annotations

import re
import sys
import zlib
from array import array
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec
from tokenizers import Tokenizer

from services.api.problems import Problem, not_found
from services.api.views import EpisodeView, RolloutBrief, RolloutDetail, StepMember, StepView
from services.contracts.arrays import unpack_float32, unpack_int32
from services.contracts.messages import Episode, ScoredGroup, Step, decode

_BATCH_FILE = re.compile(r"batch-(\d{5,})\.msgpack\.zlib")
_MOST_BYTES = 1 << 30
"""Largest archive that is unpacked; a bigger one was not written by a trainer."""
_KEPT_INDEXES = 4_096

Archived = list[tuple[bytes, list[bytes]]]
Group = tuple[ScoredGroup, list[Episode]]
Words = Callable[[list[int]], str]


class RolloutArchive:
    """Reads the archives of all jobs; keeps in memory which group lies in which file."""

    def __init__(self) -> None:
        self._briefs: OrderedDict[Path, list[RolloutBrief]] = OrderedDict()

    def batches(self, folder: Path) -> list[int]:
        """Numbers of the archived batches, in order."""
        return sorted(number for number, _ in _files(folder))

    def page(self, folder: Path, *, batch: int | None, offset: int, limit: int) -> list[RolloutBrief]:
        """Groups of one batch or all, in order of batch and cursor. Raises Problem 404 for an unknown batch."""
        files = [(number, path) for number, path in sorted(_files(folder)) if batch in (None, number)]
        if batch is not None and not files:
            raise not_found("archived batch", str(batch))
        found: list[RolloutBrief] = []
        for number, path in files:
            found += self._briefs_of(number, path)
            if len(found) >= offset + limit:
                break
        return found[offset : offset + limit]

    def detail(self, folder: Path, group_id: str) -> RolloutDetail:
        """One group with every step. Raises Problem 404."""
        for number, path in sorted(_files(folder), reverse=True):
            if any(brief.group_id == group_id for brief in self._briefs_of(number, path)):
                scored, episodes = next(group for group in _read(path) if group[0].group_id == group_id)
                return _detail(number, scored, episodes, _words(folder))
        raise not_found("rollout", group_id)

    def _briefs_of(self, number: int, path: Path) -> list[RolloutBrief]:
        if path not in self._briefs:
            self._briefs[path] = [_brief(number, scored, episodes) for scored, episodes in _read(path)]
            if len(self._briefs) > _KEPT_INDEXES:
                self._briefs.popitem(last=False)
        return self._briefs[path]


def _files(folder: Path) -> Iterator[tuple[int, Path]]:
    for path in (folder / "rollouts").glob("batch-*"):
        if (named := _BATCH_FILE.fullmatch(path.name)) is not None:
            yield int(named.group(1)), path


def _read(path: Path) -> list[Group]:
    """The groups of a batch. Raises Problem 500 for a file that is no archive."""
    unpack = zlib.decompressobj()
    try:
        payload = unpack.decompress(path.read_bytes(), _MOST_BYTES)
        groups = msgspec.msgpack.decode(payload, type=Archived)
        return [
            (decode(scores, ScoredGroup), [decode(one, Episode) for one in episodes]) for scores, episodes in groups
        ]
    except (zlib.error, ValueError) as error:  # msgspec's and the contracts' errors are ValueErrors
        raise Problem(500, f"the archive {path.name} cannot be read: {error}") from error


def _brief(batch: int, scored: ScoredGroup, episodes: list[Episode]) -> RolloutBrief:
    returns = [sum(step.reward for step in episode.steps) for episode in episodes]
    return RolloutBrief(
        group_id=scored.group_id,
        batch=batch,
        cursor=scored.cursor,
        task=episodes[0].task if episodes else "",
        episodes=len(episodes),
        won=sum(episode.won for episode in episodes),
        return_mean=sum(returns) / max(len(returns), 1),
        steps=[len(episode.steps) for episode in episodes],
    )


def _detail(batch: int, scored: ScoredGroup, episodes: list[Episode], words: Words) -> RolloutDetail:
    rows = [(episode.k, step.step_index) for episode in episodes for step in episode.steps]
    labels = [int(label) for label in _numbers("q", scored.step_group)]
    members: dict[int, list[StepMember]] = {}
    for label, (k, step_index) in zip(labels, rows, strict=True):
        members.setdefault(label, []).append(StepMember(k=k, step_index=step_index))
    columns = {
        "advantage": _numbers("d", scored.advantage),
        "episode_advantage": _numbers("d", scored.episode_advantage),
        "step_advantage": _numbers("d", scored.step_advantage),
        "step_return": _numbers("d", scored.step_return),
    }
    views, row = [], 0
    for episode in episodes:
        steps = []
        for step in episode.steps:
            figures = {name: column[row] for name, column in columns.items()}
            steps.append(_step(step, words, labels[row], members[labels[row]], figures))
            row += 1
        views.append(_episode(episode, steps))
    brief = _brief(batch, scored, episodes)
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
        step_index=step.step_index,
        prompt=words(unpack_int32(step.prompt_ids)),
        response=words(unpack_int32(step.response_ids)),
        action=step.action,
        action_valid=step.action_valid,
        finish_reason=step.finish_reason,
        reward=step.reward,
        anchor=step.anchor,
        versions=sorted(set(unpack_int32(step.versions))),
        logprob_sum=sum(unpack_float32(step.logprobs)),
        step_group=label,
        step_group_members=members,
        **figures,
    )


def _numbers(code: Literal["d", "q"], payload: bytes) -> list[Any]:
    values: array[Any] = array(code)
    values.frombytes(payload)
    if sys.byteorder == "big":
        values.byteswap()
    return values.tolist()


def _words(folder: Path) -> Words:
    """Token ids as the tokenizer of the job's policy writes them; as numbers where it cannot be read."""
    path = folder / "base" / "tokenizer.json"
    if not path.is_file():
        return lambda ids: " ".join(map(str, ids))
    tokenizer = Tokenizer.from_file(str(path))
    return lambda ids: str(tokenizer.decode(ids, skip_special_tokens=False))
