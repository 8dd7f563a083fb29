"""A batch's wall time from the moments of its episodes: who worked when, and which episode was waited for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from services.contracts.arrays import unpack_float64
from services.contracts.messages import Episode
from services.trainer.batch.batches import Batch


@dataclass(frozen=True)
class Played:
    """When an episode was played, Unix seconds."""

    cursor: int
    """The cursor of its group."""
    k: int
    turns: int
    began: float
    sampling: Sequence[tuple[float, float]]
    """The times when an engine was asked and when it answered, turn after turn."""
    ended: float

    @property
    def seconds(self) -> float:
        return self.ended - self.began


@dataclass(frozen=True)
class Window:
    """A stretch of time."""

    begin: float
    end: float

    def overlap(self, begin: float, end: float) -> float:
        """Seconds of another stretch that lie in this one."""
        return max(0.0, min(end, self.end) - max(begin, self.begin))

    def covered(self, stretches: Iterable[tuple[float, float]]) -> float:
        """Seconds of this one that lie in at least one of the stretches."""
        total, reached = 0.0, self.begin
        for begin, end in sorted(stretches):
            total += self.overlap(max(begin, reached), end)
            reached = max(reached, end)
        return total


def played_in(batch: Batch) -> list[Played]:
    """Its episodes; empty where a worker of an earlier release played one of them, which noted no moments."""
    found = [_played(group.scored.cursor, episode) for group in batch.groups for episode in group.episodes]
    return [one for one in found if one is not None] if all(found) else []


def _played(cursor: int, episode: Episode) -> Played | None:
    moments = unpack_float64(episode.moments)
    if len(moments) < 2:
        return None
    sampling = list(zip(moments[1:-1:2], moments[2:-1:2], strict=True))
    return Played(cursor, episode.k, len(episode.steps), moments[0], sampling, moments[-1])


def picture_of(played: Sequence[Played], wait: Window, wall_s: float) -> dict[str, float]:
    """Metrics of the wait for a batch, and of the episode that was waited for.

    Args:
        wait: the trainer's wait for the batch's groups.
        wall_s: that wait, the training and the publishing.
    """
    if not played:
        return {}
    slowest = max(played, key=lambda one: one.seconds)
    first, ends = min(one.began for one in played), sorted(one.ended for one in played)
    length = wait.end - wait.begin
    idle = length - wait.covered(stretch for one in played for stretch in one.sampling)
    return {
        "wait_place_s": wait.overlap(wait.begin, first),
        "wait_scoring_s": wait.overlap(ends[-1], wait.end),
        "wait_last_s": wait.overlap(ends[-2] if len(ends) > 1 else first, ends[-1]),
        "idle_share": idle / wall_s if wall_s > 0 else 0.0,
        "slowest_s": slowest.seconds,
        "slowest_turns": slowest.turns,
        "slowest_cursor": slowest.cursor,
        "slowest_k": slowest.k,
    }
