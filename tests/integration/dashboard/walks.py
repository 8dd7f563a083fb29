"""Archives as the trainer writes them, of random walks on a small grid: any number of groups and steps, with the
returns and both advantages worked out here in plain Python."""

from __future__ import annotations

import hashlib
import random
import zlib
from array import array
from collections import defaultdict
from pathlib import Path
from statistics import fmean

import msgspec

from services.contracts.arrays import pack_float32, pack_int32
from services.contracts.messages import Episode, ScoredGroup, Step, encode

SIDE, DISCOUNT = 4, 0.95
MOVES = {"go north": (0, -1), "go east": (1, 0), "go south": (0, 1), "go west": (-1, 0)}
PROMPT = pack_int32(list(range(3, 43)))
"""40 tokens, about what the default job's prompts have."""


def write_walks(
    folder: Path, *, groups: int, groups_per_batch: int, episodes: int, steps: int, seed: int = 0, penalty: float = 0.0
) -> int:
    """Archives under `folder/rollouts`, every walk of exactly `steps` steps; returns how many steps there are.

    Args:
        penalty: reward of every first step.
    """
    rng = random.Random(seed)
    (folder / "rollouts").mkdir(parents=True, exist_ok=True)
    for batch, first in enumerate(range(0, groups, groups_per_batch)):
        cursors = range(first, min(first + groups_per_batch, groups))
        payload = msgspec.msgpack.encode([_group(cursor, batch, episodes, steps, rng, penalty) for cursor in cursors])
        (folder / "rollouts" / f"batch-{batch:05d}.msgpack.zlib").write_bytes(zlib.compress(payload, 1))
    return groups * episodes * steps


def group_id(cursor: int) -> str:
    """Id of the group at a cursor."""
    return f"t{cursor:015x}"


def _group(
    cursor: int, batch: int, episodes: int, steps: int, rng: random.Random, penalty: float
) -> tuple[bytes, list[bytes]]:
    played = [_episode(cursor, batch, k, steps, rng, penalty) for k in range(episodes)]
    return encode(_scored(cursor, played)), [encode(episode) for episode in played]


def _episode(cursor: int, batch: int, k: int, steps: int, rng: random.Random, penalty: float) -> Episode:
    x, y, taken = cursor % SIDE, 0, []
    for index in range(steps):
        action, (dx, dy) = rng.choice(list(MOVES.items()))
        taken.append(_step(index, f"at {x} {y} .", action, batch, won=False))
        x, y = min(max(x + dx, 0), SIDE - 1), min(max(y + dy, 0), SIDE - 1)
    won = x + y >= SIDE
    taken[0] = msgspec.structs.replace(taken[0], reward=penalty)
    taken[-1] = msgspec.structs.replace(taken[-1], reward=float(won))
    return Episode(
        group_id=group_id(cursor),
        episode_id=f"{group_id(cursor)}/{k}",
        k=k,
        attempt=1,
        task=f"walk {cursor} to the far corner",
        steps=taken,
        won=won,
        score=float(won),
        terminated=won,
        truncated=not won,
        worker="w",
    )


def _step(index: int, anchor: str, action: str, version: int, *, won: bool) -> Step:
    key = hashlib.blake2b(anchor.encode(), digest_size=16).digest()
    return Step(
        step_index=index,
        prompt_ids=PROMPT,
        response_ids=pack_int32([7, 8, 1]),
        logprobs=pack_float32([-0.5, -0.25, -0.1]),
        versions=pack_int32([version] * 3),
        reward=float(won),
        anchor_key=key,
        state_key=key,
        anchor=anchor,
        action=action,
        action_valid=True,
    )


def _scored(cursor: int, played: list[Episode]) -> ScoredGroup:
    totals = [sum(step.reward for step in episode.steps) for episode in played]
    returns, episode_level, labels = [], [], []
    dense: dict[str, int] = {}
    for episode, total in zip(played, totals, strict=True):
        length = len(episode.steps)
        returns += [total * DISCOUNT ** (length - 1 - index) for index in range(length)]
        episode_level += [total - fmean(totals)] * length
        labels += [dense.setdefault(step.anchor, len(dense)) for step in episode.steps]
    by_label = defaultdict(list)
    for label, value in zip(labels, returns, strict=True):
        by_label[label].append(value)
    means = {label: fmean(values) for label, values in by_label.items()}
    step_level = [value - means[label] for label, value in zip(labels, returns, strict=True)]
    return ScoredGroup(
        group_id=group_id(cursor),
        purpose="train",
        cursor=cursor,
        advantage=_doubles([e + s for e, s in zip(episode_level, step_level, strict=True)]),
        episode_advantage=_doubles(episode_level),
        step_advantage=_doubles(step_level),
        step_return=_doubles(returns),
        step_group=array("q", labels).tobytes(),
        episodes_sha="0" * 64,
    )


def _doubles(values: list[float]) -> bytes:
    return array("d", values).tobytes()
