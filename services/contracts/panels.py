"""The curves of a job: which metrics are drawn together, under which title. Dashboard and client draw the same ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from services.contracts.messages import STEP_GROUP_BINS


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
    Panel("cut", "Cut prompts", "% of steps", (("cut_prompt_share", "observation cut"),), share=True,
          about="longer than max_prompt_tokens"),
    Panel("loss", "Loss", "what is minimised", (("loss", "loss"),)),
    Panel("gradient", "Gradient norm", "L2, before clipping", (("grad_norm", "norm"),)),
)  # fmt: skip
