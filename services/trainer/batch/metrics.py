"""The record of a trained batch: one line of metrics.jsonl and one event."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from services.contracts.messages import STEP_GROUP_BINS
from services.trainer.batch.batches import Batch, staleness

LEARNER_NAMES = (
    "loss", "policy_loss", "kl", "policy_kl", "entropy", "clip_fraction", "grad_norm", "learning_rate", "mismatch_kl",
    "mismatch_max", "importance_weight_mean", "importance_clipped_share", "trained_rows", "unique_rows_share",
    "trained_tokens", "optimizer_steps",
)  # fmt: skip
"""What the learner reports and the record takes over; a name that it does not report is left out."""


@dataclass(frozen=True)
class Timing:
    """Wall time of one batch, seconds."""

    wait_s: float
    """Waiting for scored groups."""
    train_s: float
    publish_s: float
    """Writing the version, and until a replica serves it."""


def batch_record(
    batch: Batch, learner: dict[str, float], timing: Timing, reward_funcs: Sequence[str] = ()
) -> dict[str, float]:
    """Everything people look at, for one batch.

    `episode_advantage_share` is mean |A^E| / (mean |A^E| + mean |omega A^S|): 1 where no step level helps.
    `useful_anchor_share` is the share of steps whose step group tells its actions apart (A^S is not 0).
    `aliased_anchor_share` is the share of steps whose step group holds more than one exact state, so that more than
    the action may differ. Where an environment cannot tell its state, the way there stands for it.
    `step_group_share_4` is the share of steps in step groups of 4 and more, below the next of `STEP_GROUP_BINS`.
    `cut_prompt_share` is the share of steps whose observation was cut to fit max_prompt_tokens.
    `tokens_per_s` counts response tokens over the wall time of the batch. `reward_<name>` is the mean of one of the
    job's reward functions over the replies.
    """
    sums = _sums([group.scored.diagnostics for group in batch.groups])
    episodes, steps = max(sums["episodes"], 1.0), max(sums["steps"], 1.0)
    levels = sums["abs_episode_advantage_sum"] + sums["abs_step_advantage_sum"]
    ages = [staleness(group, batch.number) for group in batch.groups]
    tokens = sum(group.sampled_tokens for group in batch.groups)
    wall_s = timing.wait_s + timing.train_s + timing.publish_s
    return {
        "batch": batch.number,
        "version": batch.number + 1,
        "env_steps": int(sums["steps"]),
        "episodes": int(sums["episodes"]),
        "success": sums["won"] / episodes,
        "return_mean": sums["return_sum"] / episodes,
        **_reward_means(batch, reward_funcs),
        "length_mean": sums["steps"] / episodes,
        "invalid_share": sums["invalid_steps"] / steps,
        "cut_prompt_share": sums.get("cut_prompts", 0.0) / steps,
        "episode_advantage_abs": sums["abs_episode_advantage_sum"] / steps,
        "step_advantage_abs": sums["abs_step_advantage_sum"] / steps,
        "episode_advantage_share": sums["abs_episode_advantage_sum"] / levels if levels else 0.0,
        "step_advantage_share": sums["abs_step_advantage_sum"] / levels if levels else 0.0,
        "useful_anchor_share": sums["useful_anchor_rows"] / steps,
        "shared_anchor_share": sums["shared_anchor_rows"] / steps,
        "aliased_anchor_share": sums.get("aliased_anchor_rows", 0.0) / steps,
        "step_groups": int(sums["step_groups"]),
        "step_group_size_mean": sums["steps"] / max(sums["step_groups"], 1.0),
        "step_group_size_max": int(max(group.scored.diagnostics["step_group_largest"] for group in batch.groups)),
        **{f"step_group_share_{least}": sums.get(f"step_group_rows_{least}", 0.0) / steps for least in STEP_GROUP_BINS},
        **{name: learner[name] for name in LEARNER_NAMES if name in learner},
        "staleness_mean": sum(ages) / len(ages),
        "staleness_max": max(ages),
        "tokens": tokens,
        "tokens_per_s": tokens / wall_s if wall_s > 0 else 0.0,
        "wait_s": timing.wait_s,
        "train_s": timing.train_s,
        "publish_s": timing.publish_s,
    }


def append_record(path: Path, record: dict[str, float]) -> None:
    """Add a line to metrics.jsonl."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")


def cut_records(path: Path, lines: int) -> None:
    """Keep the first `lines` lines: a restored job writes the others again. A half-written last line goes too."""
    if not path.exists():
        return
    with path.open("rb+") as file:
        for _ in range(lines):
            file.readline()
        file.truncate(file.tell())
        os.fsync(file.fileno())


def _sums(diagnostics: Sequence[dict[str, float]]) -> dict[str, float]:
    names = diagnostics[0].keys() if diagnostics else ()
    return {name: sum(one.get(name, 0.0) for one in diagnostics) for name in names}


def _reward_means(batch: Batch, reward_funcs: Sequence[str]) -> dict[str, float]:
    steps = [step for group in batch.groups for episode in group.episodes for step in episode.steps]
    return {
        f"reward_{name}": sum(step.rewards[position] for step in steps) / max(len(steps), 1)
        for position, name in enumerate(reward_funcs)
    }
