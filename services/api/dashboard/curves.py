"""Which curves a job has, and the points of them. The browser draws what it is told here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from services.contracts.messages import STEP_GROUP_BINS

MOST_POINTS = 600
"""A curve on a page has no more points than this: it is drawn some 400 pixels wide."""
_Z = 1.96
"""Standard normal quantile of a 95 % interval."""

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Panel:
    """One small chart over batches."""

    key: str
    title: str
    unit: str
    series: tuple[tuple[str, str], ...]
    """(metric, label) pairs; the first is what a comparison of jobs shows."""
    kind: Literal["lines", "stack", "band"] = "lines"
    """`band`: the first series has a confidence band in `<metric>_low` and `<metric>_high`."""
    share: bool = False
    """Values in [0, 1], shown as percentages."""
    about: str = ""


def _bin_label(position: int) -> str:
    least = STEP_GROUP_BINS[position]
    if position + 1 == len(STEP_GROUP_BINS):
        return f"{least} and more"
    most = STEP_GROUP_BINS[position + 1] - 1
    return str(least) if most == least else f"{least}–{most}"


PANELS = (
    Panel("success", "Success", "% of episodes", (("success", "training"),), "band", True,
          "95 % band; dots are held out"),
    Panel("return", "Return", "reward per episode", (("return_mean", "return"),),
          about="mean over the batch"),
    Panel("length", "Episode length", "steps", (("length_mean", "length"),),
          about="shorter at equal success is straighter"),
    Panel("levels", "Where the advantage comes from", "% of |A|",
          (("episode_advantage_share", "episode level"), ("step_advantage_share", "step level")), "stack", True,
          "mean size of either level"),
    Panel("anchors", "Useful anchors", "% of steps",
          (("useful_anchor_share", "actions told apart"), ("shared_anchor_share", "state met again"),
           ("aliased_anchor_share", "met in different exact states")), share=True,
          about="where a state was met again"),
    Panel("sizes", "Step-group sizes", "% of steps",
          tuple((f"step_group_share_{least}", _bin_label(at)) for at, least in enumerate(STEP_GROUP_BINS)),
          "stack", True, "visits compared, its own included"),
    Panel("kl", "KL to the reference", "nats per token", (("kl", "KL"),)),
    Panel("entropy", "Entropy", "nats per token", (("entropy", "entropy"),)),
    Panel("mismatch", "Mismatch KL", "nats per token", (("mismatch_kl", "engine ‖ trainer"),),
          about="engine against trainer"),
    Panel("staleness", "Staleness", "policy versions",
          (("staleness_mean", "mean"), ("staleness_max", "oldest token"))),
    Panel("throughput", "Throughput", "tokens/s", (("tokens_per_s", "response tokens"),)),
    Panel("time", "Time of a batch", "seconds",
          (("wait_s", "rollout"), ("train_s", "training"), ("publish_s", "publishing")), "stack"),
    Panel("invalid", "Invalid actions", "% of steps", (("invalid_share", "invalid"),), share=True),
    Panel("loss", "Loss", "what is minimised", (("loss", "loss"),)),
    Panel("gradient", "Gradient norm", "L2, before clipping", (("grad_norm", "norm"),)),
)  # fmt: skip

_WANTED = frozenset(metric for panel in PANELS for metric, _ in panel.series) | {"batch"}


def panel_documents(panels: Sequence[Panel] = PANELS) -> list[dict[str, Any]]:
    """The panels as JSON values."""
    return [asdict(panel) for panel in panels]


def point(row: Row) -> dict[str, float]:
    """What the charts need of one batch's metrics."""
    found = {name: value for name, value in row.items() if name in _WANTED and isinstance(value, int | float)}
    if "success" in found and (episodes := row.get("episodes")):
        found["success_low"], found["success_high"] = wilson_interval(found["success"], episodes)
    return found


def points(rows: Sequence[Row]) -> list[dict[str, float]]:
    """At most `MOST_POINTS` of them, evenly spread, the newest always among them."""
    stride = max(-(-len(rows) // MOST_POINTS), 1)
    return [point(row) for row in rows[(len(rows) - 1) % stride :: stride]] if rows else []


def wilson_interval(share: float, count: float) -> tuple[float, float]:
    """The 95 % Wilson interval of a share observed in `count` trials; inside [0, 1] also at its ends."""
    centre = (share + _Z**2 / (2 * count)) / (1 + _Z**2 / count)
    half = _Z / (1 + _Z**2 / count) * math.sqrt(max(share * (1 - share), 0.0) / count + _Z**2 / (4 * count**2))
    return max(centre - half, 0.0), min(centre + half, 1.0)


def held_out(evaluations: Sequence[Row]) -> list[dict[str, Any]]:
    """The evaluations of the policy itself, as points with one standard error."""
    return [
        {"batch": one["version"], "success": one["success"], "error": one["standard_error"]}
        for one in evaluations
        if one.get("label") in {"before", "during", "after"}
    ]
