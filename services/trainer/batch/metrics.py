"""The record of a trained batch: one line of metrics.jsonl and one event."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from services.contracts.job import Rollout
from services.contracts.json_records import RECORD
from services.contracts.messages import STEP_GROUP_BINS
from services.contracts.metrics import MEMBER, REWARD
from services.contracts.policy import PolicyAck
from services.contracts.user_files import reward_label
from services.trainer.batch.batches import Batch, staleness
from services.trainer.batch.moments import Window, picture_of, played_in
from services.trainer.groups.payloads import Payload


@dataclass(frozen=True)
class Timing:
    """Wall time of one batch, seconds."""

    wait_s: float
    """Waiting for scored groups."""
    train_s: float
    publish_s: float
    """Writing the version, and until a replica serves it."""
    served: PolicyAck | None = None
    """The word of the replica that serves it; None: nobody serves it yet."""
    arrived_unix_s: float = 0.0
    """When the wait for scored groups ended."""


def batch_record(
    batch: Batch,
    learner: Mapping[str, float],
    timing: Timing,
    reward_funcs: Sequence[str] = (),
    usual: float | None = None,
    member_of: Callable[[int], str] = lambda cursor: "",
) -> dict[str, float]:
    """Everything people look at, for one batch; its fields are those of `services.contracts.metrics`.

    Args:
        learner: what the learner reports; all of it goes into the record.
        usual: `usual_length` of all batches before.
        member_of: the member of the job's mixture that the training group at a cursor is of; "": it has none.
    """
    sums = _sums([group.scored.diagnostics for group in batch.groups])
    episodes, steps = max(sums["episodes"], 1.0), max(sums["steps"], 1.0)
    crashed = batch.crashes + sum(max(episode.crashes for episode in group.episodes) for group in batch.groups)
    ages = [staleness(group, batch.number) for group in batch.groups]
    tokens = sum(group.sampled_tokens for group in batch.groups)
    wall_s = timing.wait_s + timing.train_s + timing.publish_s
    return {
        "batch": batch.number,
        "version": batch.number + 1,
        "env_steps": int(sums["steps"]),
        "episodes": int(sums["episodes"]),
        "success": sums["won"] / (episodes + crashed),
        "crashed_episodes": crashed,
        "return_mean": sums["return_sum"] / episodes,
        **_reward_means(batch, reward_funcs),
        **_of_members(batch, member_of),
        "length_mean": sums["steps"] / episodes,
        "invalid_share": sums["invalid_steps"] / steps,
        "cut_prompt_share": sums.get("cut_prompts", 0.0) / steps,
        "context_overflows": _overflows(batch) / episodes,
        "judge_tokens": sum(episode.judge_tokens for group in batch.groups for episode in group.episodes),
        "failed_attempts": sum(max(episode.attempt for episode in group.episodes) - 1 for group in batch.groups),
        **_advantage_levels(sums, steps),
        **_step_groups(batch, sums, steps),
        **learner,
        **({} if batch.kl is None else {"kl": sum(map(sum, batch.kl)) / max(tokens, 1)}),
        "staleness_mean": sum(ages) / len(ages),
        "staleness_max": max(ages),
        **({"length_ratio": sums["steps"] / episodes / usual} if usual else {}),
        "passed_over_groups": batch.passed_over,
        "tokens": tokens,
        "tokens_per_s": tokens / wall_s if wall_s > 0 else 0.0,
        "wait_s": timing.wait_s,
        "train_s": timing.train_s,
        "publish_s": timing.publish_s,
        **_waits(batch, timing, wall_s),
        **_serving(timing.served, batch.number + 1),
    }


def usual_length(rollout: Rollout, batches: int, env_steps: int) -> float | None:
    """Mean steps of an episode in so many batches; None: there was none."""
    episodes = batches * rollout.groups_per_batch * rollout.num_generations
    return env_steps / episodes if episodes else None


def _overflows(batch: Batch) -> int:
    return sum(episode.context_overflows for group in batch.groups for episode in group.episodes)


def append_record(path: Path, record: dict[str, float]) -> None:
    """Add a line to metrics.jsonl. OSError: the disk refuses it; nothing of the line is left."""
    with path.open("ab") as file:
        end = file.tell()
        try:
            file.write(json.dumps(RECORD.versioned(record)).encode() + b"\n")
            file.flush()
        except OSError:
            os.ftruncate(file.fileno(), end)
            raise


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


def _advantage_levels(sums: Mapping[str, float], steps: float) -> dict[str, float]:
    episode, step = sums["abs_episode_advantage_sum"], sums["abs_step_advantage_sum"]
    both = episode + step
    return {
        "episode_advantage_abs": episode / steps,
        "step_advantage_abs": step / steps,
        "episode_advantage_share": episode / both if both else 0.0,
        "step_advantage_share": step / both if both else 0.0,
    }


def _step_groups(batch: Batch, sums: Mapping[str, float], steps: float) -> dict[str, float]:
    return {
        "useful_anchor_share": sums["useful_anchor_rows"] / steps,
        "shared_anchor_share": sums["shared_anchor_rows"] / steps,
        "aliased_anchor_share": sums.get("aliased_anchor_rows", 0.0) / steps,
        "step_groups": int(sums["step_groups"]),
        "step_group_size_mean": sums["steps"] / max(sums["step_groups"], 1.0),
        "step_group_size_max": int(max(group.scored.diagnostics["step_group_largest"] for group in batch.groups)),
        **{f"step_group_share_{least}": sums.get(f"step_group_rows_{least}", 0.0) / steps for least in STEP_GROUP_BINS},
    }


def _serving(ack: PolicyAck | None, version: int) -> dict[str, float]:
    """Empty where the replica's word is of a later version, as in a replay."""
    return {"load_s": ack.load_s, "pause_s": ack.pause_s} if ack and ack.version == version else {}


def _waits(batch: Batch, timing: Timing, wall_s: float) -> dict[str, float]:
    """Mean times of an episode, and the parts of `wait_s`: before its episodes, between as their own times are divided,
    and behind them; 0 where no episode waited."""
    wait = Window(timing.arrived_unix_s - timing.wait_s, timing.arrived_unix_s)
    picture = picture_of(played_in(batch), wait, wall_s)
    wait_s = max(0.0, timing.wait_s - picture.get("wait_place_s", 0.0) - picture.get("wait_scoring_s", 0.0))
    episodes = [episode for group in batch.groups for episode in group.episodes]
    generate_s, env_s = sum(one.generate_s for one in episodes), sum(one.env_s for one in episodes)
    both_s = generate_s + env_s
    return {
        **picture,
        "wait_generate_s": wait_s * generate_s / both_s if both_s else 0.0,
        "wait_env_s": wait_s * env_s / both_s if both_s else 0.0,
        "episode_generate_s": generate_s / max(len(episodes), 1),
        "episode_env_s": env_s / max(len(episodes), 1),
    }


def _of_members(batch: Batch, member_of: Callable[[int], str]) -> dict[str, float]:
    """Each member's own figures; a member without a group in the batch has none."""
    groups: dict[str, list[Payload]] = {}
    for group in batch.groups:
        groups.setdefault(member_of(group.scored.cursor), []).append(group)
    groups.pop("", None)
    found: dict[str, float] = {}
    for member in sorted(groups):
        sums = _sums([group.scored.diagnostics for group in groups[member]])
        crashed = sum(max(episode.crashes for episode in group.episodes) for group in groups[member])
        episodes = max(sums["episodes"], 1.0)
        found |= {
            f"{MEMBER['success']}{member}": sums["won"] / (episodes + crashed),
            f"{MEMBER['return_mean']}{member}": sums["return_sum"] / episodes,
            f"{MEMBER['episodes']}{member}": int(sums["episodes"]),
        }
    return found


def _reward_means(batch: Batch, reward_funcs: Sequence[str]) -> dict[str, float]:
    """The mean of each function, over the steps on which it had a vote; left out where it had none."""
    steps = [step for group in batch.groups for episode in group.episodes for step in episode.steps]
    votes = {
        name: [value for step in steps if not math.isnan(value := step.rewards[position])]
        for position, name in enumerate(reward_funcs)
    }
    return {f"{REWARD}{reward_label(name)}": sum(values) / len(values) for name, values in votes.items() if values}
