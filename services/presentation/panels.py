"""The panels of a job: which metrics share a chart, and its title. Dashboard and client draw the same panels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from services.contracts.metrics import MEMBER, METRICS

Kind = Literal["lines", "stack", "band"]


@dataclass(frozen=True)
class Panel:
    """One small chart over batches."""

    key: str
    title: str
    unit: str
    series: tuple[tuple[str, str], ...]
    """(metric, label) pairs; the first is what a comparison of jobs shows."""
    kind: Kind = "lines"
    """`band`: the first series has a confidence band in `<metric>_low` and `<metric>_high`."""
    share: bool = False
    """Values in [0, 1], shown as percentages."""
    about: str = ""


def _panel(key: str, title: str, unit: str, kind: Kind = "lines", share: bool = False, about: str = "") -> Panel:
    """A panel of the metrics that name it, in their order."""
    series = tuple((metric.name, metric.label) for metric in METRICS if metric.panel == key)
    return Panel(key, title, unit, series, kind, share, about)


PANELS = (
    _panel("success", "Success", "% of episodes", "band", True, "95 % band; dots are held out"),
    _panel("return", "Return", "reward per episode", about="mean over the batch"),
    _panel("length", "Episode length", "steps", about="shorter at equal success is straighter"),
    _panel("levels", "Where the advantage comes from", "% of |A|", "stack", True, "mean size of either level"),
    _panel("anchors", "Useful anchors", "% of steps", share=True, about="where a state was met again"),
    _panel("sizes", "Step-group sizes", "% of steps", "stack", True, "visits compared, its own included"),
    _panel("kl", "KL to the reference", "nats per token"),
    _panel("entropy", "Entropy", "nats per token"),
    _panel("mismatch", "Mismatch KL", "nats per token", about="engine against trainer"),
    _panel(
        "importance", "Effective samples", "% of tokens", share=True, about="100 %: no importance weight stands out"
    ),
    _panel("clipping", "Clipped tokens", "% of tokens", share=True),
    _panel("staleness", "Staleness", "policy versions"),
    _panel("throughput", "Throughput", "tokens/s"),
    _panel("time", "Time of a batch", "seconds", "stack"),
    _panel("waits", "What rollout waited for", "seconds", "stack", about="the part “rollout” of the batch's time"),
    _panel(
        "idle", "Nobody worked", "% of time", share=True, about="neither engine nor trainer; the environment may have"
    ),
    _panel("episode", "Time of an episode", "seconds", "stack", about="mean; scoring and queues left out"),
    _panel("serving", "New version served", "seconds", about="in the replica, part of publishing"),
    _panel("attempts", "Failed attempts", "per batch", about="groups that had to be played again"),
    _panel("invalid", "Invalid actions", "% of steps", share=True),
    _panel("cut", "Cut prompts", "% of steps", share=True, about="longer than max_prompt_tokens"),
    _panel("loss", "Loss", "the minimised figure"),
    _panel("gradient", "Gradient norm", "L2, before clipping"),
)


def panels_of(members: Sequence[str]) -> tuple[Panel, ...]:
    """The panels of a job with these members; without members, all of the others."""
    if not members:
        return PANELS
    success, returned, *others = PANELS
    series = {name: tuple((prefix + member, member) for member in members) for name, prefix in MEMBER.items()}
    of_members = (
        Panel("member_success", "Success by member", "% of episodes", series["success"], share=True),
        Panel("member_return", "Return by member", "reward per episode", series["return_mean"]),
        Panel("member_episodes", "Episodes by member", "episodes", series["episodes"], "stack"),
    )
    return (success, returned, *of_members, *others)


def members_in(names: Iterable[str]) -> list[str]:
    """The members that metrics of these names are of, sorted."""
    beginning = MEMBER["episodes"]
    return sorted({name.removeprefix(beginning) for name in names if name.startswith(beginning)})
