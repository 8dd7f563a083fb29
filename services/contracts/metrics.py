"""The metrics of a batch: the one definition of every field of its record.

`metrics.jsonl`, the `metrics` events and the REST API use these names. The panels of dashboard and client and the table
in docs/metrics.md are made from them. Records of earlier versions lack the metrics that came later.
"""

from __future__ import annotations

from dataclasses import dataclass

from services.contracts.messages import STEP_GROUP_BINS
from services.contracts.metric_readings import READINGS


@dataclass(frozen=True)
class Metric:
    """One field of a batch's record."""

    name: str
    unit: str
    about: str
    """One sentence."""
    panel: str | None = None
    """Key of the panel that draws it; None: tables and downloads alone."""
    label: str = ""
    """Its name in the panel's legend."""
    learner: bool = False
    """The learner reports it by this name; the trainer works out the others."""


REWARD = "reward_"
"""The beginning of the name of a reward function's own mean; the function's name follows."""

MEMBER = {"success": "success/", "return_mean": "return/", "episodes": "episodes/"}
"""Metric -> the beginning of the name of the same figure over one member of a mixture; the member's name follows."""


def _bins() -> tuple[Metric, ...]:
    found = []
    for least, following in zip(STEP_GROUP_BINS, (*STEP_GROUP_BINS[1:], None), strict=True):
        if following is None:
            label, size = f"{least} and more", f"{least} steps and more"
        elif following == least + 1:
            label, size = str(least), f"{least} step" + "s" * (least > 1)
        else:
            label, size = f"{least}–{following - 1}", f"{least} to {following - 1} steps"
        about = f"Steps in step groups of {size}."
        found.append(Metric(f"step_group_share_{least}", "share of steps", about, "sizes", label))
    return tuple(found)


_EPISODES, _STEPS, _NATS = "share of episodes", "share of steps", "nats per token"

METRICS = (
    Metric("at_unix_s", "Unix seconds", "Time at which the batch was finished."),
    Metric("batch", "number", "The batch, counted from 0."),
    Metric("version", "number", "The policy version that the batch made."),
    Metric("env_steps", "steps", "Steps of its episodes."),
    Metric("episodes", "episodes", "Episodes of its groups."),
    Metric("success", _EPISODES, "Episodes won, of those played and those that crashed.", "success", "training"),
    Metric("crashed_episodes", "episodes",
           "Episodes whose policy crashed their environment: not won, played again, not trained.",
           "attempts", "crashed"),
    Metric("return_mean", "reward", "Mean sum of an episode's rewards.", "return", "return"),
    Metric("length_mean", "steps", "Mean length of an episode.", "length", "length"),
    Metric("invalid_share", _STEPS, "Steps whose action was invalid.", "invalid", "invalid"),
    Metric("cut_prompt_share", _STEPS, "Steps whose observation was cut to fit max_prompt_tokens.", "cut",
           "observation cut"),
    Metric("context_overflows", "per episode", "Times that a conversation outgrew max_context_tokens."),
    Metric("judge_tokens", "tokens", "Tokens that judges read and wrote to score its episodes, as they say."),
    Metric("failed_attempts", "attempts", "Attempts to play its groups that failed before one was complete.",
           "attempts", "failed"),
    Metric("episode_advantage_abs", "advantage", "Mean size of A^E over the steps."),
    Metric("step_advantage_abs", "advantage", "Mean size of omega A^S over the steps."),
    Metric("episode_advantage_share", "share of both sizes", "The episode level's part; 1 where no step level helps.",
           "levels", "episode level"),
    Metric("step_advantage_share", "share of both sizes", "The step level's part.", "levels", "step level"),
    Metric("useful_anchor_share", _STEPS, "Steps whose step group tells its actions apart: A^S is not 0.", "anchors",
           "actions told apart"),
    Metric("shared_anchor_share", _STEPS, "Steps in step groups of two and more.", "anchors", "state met again"),
    Metric("aliased_anchor_share", _STEPS,
           "Steps whose step group holds more than one exact state, so that more than the action may differ. Where an "
           "environment cannot tell its state, the way there stands for it.",
           "anchors", "met in different exact states"),
    Metric("step_groups", "step groups", "Step groups of the batch."),
    Metric("step_group_size_mean", "steps", "Mean size of a step group."),
    Metric("step_group_size_max", "steps", "Size of the largest step group."),
    *_bins(),
    Metric("loss", "loss", "Mean of the loss over optimizer steps.", "loss", "loss", True),
    Metric("policy_loss", "loss", "The same without KL and entropy.", learner=True),
    Metric("kl", _NATS, "Estimate of the KL to the reference policy, k1 where the reward holds it; 0 where beta is 0.",
           "kl", "KL", True),
    Metric("policy_kl", _NATS, "Estimate of the KL to the policy before the batch.", learner=True),
    Metric("entropy", _NATS, "Mean entropy of the policy.", "entropy", "entropy", True),
    Metric("clip_fraction", "share of tokens", "Tokens whose ratio was clipped.", "clipping", "ratio clipped", True),
    Metric("grad_norm", "L2", "The gradient's norm before clipping, mean over optimizer steps.", "gradient", "norm",
           True),
    Metric("learning_rate", "rate", "The optimizer's learning rate.", learner=True),
    Metric("mismatch_kl", _NATS, "k3 estimate of KL(engine ‖ trainer) over all tokens; it includes staleness.",
           "mismatch", "engine ‖ trainer", True),
    Metric("current_mismatch_kl", _NATS,
           "The same over the rows that the current version sampled: the engine's arithmetic alone. Missing where it "
           "sampled none.", "mismatch", "same version", True),
    Metric("mismatch_max", "nats", "Largest difference of a token's two log-probabilities.", learner=True),
    Metric("importance_weight_mean", "ratio", "Mean importance weight of a token.", learner=True),
    Metric("importance_clipped_share", "share of tokens", "Tokens whose importance weight was clipped.", "clipping",
           "importance clipped", True),
    Metric("importance_ess", "share of tokens", "Effective sample size of the importance weights; 1: all are equal.",
           "importance", "effective", True),
    Metric("trained_rows", "steps", "Steps whose advantage is not 0.", learner=True),
    Metric("unique_rows_share", _STEPS, "Different pairs of prompt and response.", learner=True),
    Metric("trained_tokens", "tokens", "Response tokens of the trained steps.", learner=True),
    Metric("optimizer_steps", "optimizer steps", "Optimizer steps of the job so far.", learner=True),
    Metric("staleness_mean", "policy versions", "Mean age of a group's oldest token.", "staleness", "mean"),
    Metric("staleness_max", "policy versions", "Age of the oldest token.", "staleness", "oldest token"),
    Metric("length_ratio", "ratio", "length_mean over that of all batches before; missing in the first one."),
    Metric("passed_over_groups", "groups",
           "Groups opened before one of the batch's that were still played; 0 with batch_order: cursor.", "attempts",
           "passed over"),
    Metric("tokens", "tokens", "Response tokens that were sampled for the batch."),
    Metric("tokens_per_s", "tokens/s", "Sampled response tokens per second of the batch's wall time.", "throughput",
           "response tokens"),
    Metric("wait_s", "seconds", "Time that the trainer waited for scored groups.", "time", "rollout"),
    Metric("train_s", "seconds", "Time that the learner trained.", "time", "training"),
    Metric("publish_s", "seconds", "Time from writing the new version until a replica served it.", "time",
           "publishing"),
    Metric("idle_share", "share of wall time",
           "Wall time in which no episode of the batch waited for an engine, and the trainer neither trained nor "
           "published.",
           "idle", "neither engine nor trainer"),
    Metric("wait_place_s", "seconds", "Part of wait_s before the first of the batch's episodes began.", "waits",
           "a place"),
    Metric("wait_generate_s", "seconds", "Part of wait_s in which the batch's episodes waited for inference.",
           "waits", "inference"),
    Metric("wait_env_s", "seconds", "Part of wait_s in which they waited for the environment.", "waits", "environment"),
    Metric("wait_scoring_s", "seconds", "Part of wait_s behind the last of the batch's episodes.", "waits", "scoring"),
    Metric("wait_last_s", "seconds", "Part of wait_s in which a single episode of the batch was still played."),
    Metric("slowest_s", "seconds", "Time of the batch's slowest episode."),
    Metric("slowest_turns", "steps", "Steps of the slowest episode."),
    Metric("slowest_cursor", "number", "Position of the slowest episode's group among the groups of the job."),
    Metric("slowest_k", "number", "The slowest episode's number in its group."),
    Metric("episode_generate_s", "seconds", "Mean time that an episode waited for inference.", "episode", "inference"),
    Metric("episode_env_s", "seconds", "Mean time that an episode waited for its environment.", "episode",
           "environment"),
    Metric("load_s", "seconds", "Time from a replica's notice of the version until it served it; a part of publish_s.",
           "serving", "loading"),
    Metric("pause_s", "seconds", "Time that sampling was paused for the new version; a part of load_s.", "serving",
           "sampling paused"),
)  # fmt: skip


_OF_THE_SLOWEST = frozenset({"idle_share", "slowest_turns", "slowest_cursor", "slowest_k"})


def of_the_clock(name: str) -> bool:
    """Whether two equal runs may differ in this metric of a batch, because it is a time or depends on one."""
    return name.endswith("_s") or name in _OF_THE_SLOWEST


def metric_table() -> str:
    """The fields as a table in Markdown."""
    rows = [
        f"| `{one.name}` | {one.unit} | {one.about} | {READINGS.get(one.name, '')} | {one.panel or ''} |"
        for one in METRICS
    ]
    return "\n".join(["| field | unit | what it is | how to read it | panel |", "|---|---|---|---|---|", *rows]) + "\n"
