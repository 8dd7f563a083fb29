"""Where the wall time of each batch went, and one sentence on what to change."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

PARTS = {
    "wait_place_s": ("place", "waiting for a place"),
    "wait_env_s": ("environment", "environment"),
    "wait_generate_s": ("sampling", "prefill and decode"),
    "wait_scoring_s": ("scoring", "scoring"),
    "train_s": ("training", "training"),
    "publish_s": ("publishing", "publishing"),
}
"""Metric -> its key in style sheets, and its words; in the order of a batch's life."""
ADVICE = {
    "place": "start another rollout worker, or raise ROLLOUT_MAX_EPISODES",
    "environment": "start more workers of the environment service, or set batch_order: arrival with extra_groups",
    "sampling": "start more replicas of the inference service, or set max_staleness: 1 so that they sample meanwhile",
    "scoring": "start another advantage service",
    "training": "raise microbatch_tokens, lower minibatches or num_iterations, or give the trainer more ranks",
    "publishing": "train an adapter (tuner_type: lora), which is smaller than the model",
}
ONE_EPISODE = 0.3
"""Share of the time from which a single episode is the cause."""


@dataclass(frozen=True)
class Part:
    """What was done in a share of the time."""

    key: str
    words: str
    seconds: float
    share: float


@dataclass(frozen=True)
class BatchPicture:
    """One batch."""

    number: int
    seconds: float
    parts: tuple[Part, ...]
    """Those that took any time, in the order of a batch's life."""
    idle_share: float | None
    """None: it was not recorded."""
    slowest: str
    """Name, turns and seconds of the slowest episode; empty: it was not recorded."""
    advice: str
    """One sentence."""


def pictures(records: Iterable[Mapping[str, object]]) -> list[BatchPicture]:
    """A picture of each batch that took any time, in the order given."""
    found = (_picture({name: value for name, value in one.items() if _is_number(value)}) for one in records)
    return [one for one in found if one is not None]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and value == value


def _picture(record: Mapping[str, object]) -> BatchPicture | None:
    figures = {name: float(str(value)) for name, value in record.items()}
    seconds = {name: figures.get(name, 0.0) for name in PARTS}
    total = sum(seconds.values())
    if total <= 0 or "batch" not in figures:
        return None
    parts = tuple(
        Part(key, words, seconds[name], seconds[name] / total)
        for name, (key, words) in PARTS.items()
        if seconds[name] > 0
    )
    slowest = ""
    if "slowest_s" in figures:
        cursor, k, turns = (int(figures.get(f"slowest_{name}", 0)) for name in ("cursor", "k", "turns"))
        slowest = f"group {cursor}, episode {k}: {turns} turns in {figures['slowest_s']:.3g} s"
    advice = _advice(parts, figures.get("wait_last_s", 0.0) / total, int(figures.get("slowest_turns", 0)))
    return BatchPicture(int(figures["batch"]), total, parts, figures.get("idle_share"), slowest, advice)


def _advice(parts: tuple[Part, ...], alone: float, turns: int) -> str:
    if alone >= ONE_EPISODE:
        return (
            f"{alone:.0%} of the time one episode was waited for, the slowest took {turns} turns: set batch_order: "
            "arrival with extra_groups, or lower max_turns."
        )
    most = max(parts, key=lambda part: part.share)
    return f"{most.share:.0%} of the time went into {most.words}: {ADVICE[most.key]}."
