"""Checks of the pipeline: fresh and complete samples, agreement of engine and trainer, evaluations. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.api.insight.evidence import Evidence, figure, finding
from services.contracts.mismatch import WARN_ABOVE
from services.contracts.rest.insight import Finding

FEW_EFFECTIVE = 0.5
"""Effective sample size of the importance weights as a share of the tokens."""
MANY_STALE = 0.1
MANY_LOST = 0.05
MANY_FAILED = 0.1
"""Failed attempts per group."""
BY_HEART = 0.2
SEES_TASK = 0.9
"""Share of its success that a policy keeps with its task hidden, if it does not need to read it."""
FEW_BATCHES = 10
"""Fewer are not expected to teach anything."""
_ENV_BUG = "environment env_bug: "
"""The text of a warning before the environment's own error."""
CLEARLY = 2.0
"""Standard errors of a difference that is no chance."""


def warm_start_fails(evidence: Evidence) -> Finding | None:
    """A warm start that does not teach the form of a reply."""
    before = evidence.evaluations.get("before")
    limit = evidence.setting("model.warmstart.warmstart_max_invalid")
    if before is None or limit is None or before["invalid_share"] <= limit:
        return None
    return finding(
        "warm_start_fails",
        "problem",
        "The warm start does not teach the format",
        [
            figure("invalid_share", before["invalid_share"], f"share of steps before training; limit {limit:g}"),
            figure("warmstart_steps", float(evidence.setting("model.warmstart.warmstart_steps", 0)), "optimizer steps"),
            figure(
                "warmstart_rows", float(evidence.setting("model.warmstart.warmstart_rows", 0)), "steps learned from"
            ),
        ],
        meaning="The policy's replies are not valid actions on fresh tasks, so the job does not start to train.",
        advice="Raise warmstart_steps and warmstart_rows; warmstart_environment_kwargs can show every kind of state.",
    )


def samples_too_old(evidence: Evidence) -> Finding | None:
    """Tokens of policies that the trained one has left behind."""
    age, effective = evidence.recent("staleness_mean"), evidence.recent("importance_ess")
    stale = evidence.dropped.get("stale", 0) / evidence.opened if evidence.opened else 0.0
    worn = age is not None and age >= 1 and effective is not None and effective < FEW_EFFECTIVE
    if not worn and stale < MANY_STALE:
        return None
    figures = [] if age is None else [figure("staleness_mean", age, "policy versions, newest batches")]
    if effective is not None:
        figures.append(figure("importance_ess", effective, f"share of tokens, newest batches; limit {FEW_EFFECTIVE}"))
    figures.append(figure("dropped_stale", stale, f"share of opened groups; limit {MANY_STALE}"))
    return finding(
        "samples_too_old",
        "warning",
        "Samples are too old",
        figures,
        meaning="The policy has changed so much since these groups were played that few of their tokens still count.",
        advice="Lower max_staleness or learning_rate, or give the job more rollout workers or a faster engine.",
    )


def engine_mismatch(evidence: Evidence) -> Finding | None:
    """Engine and trainer that disagree on equal weights."""
    half = evidence.setting("model.torch_dtype") == "bfloat16"
    limit = WARN_ABOVE["bfloat16" if half else "float32"]
    mismatch = evidence.recent("current_mismatch_kl")
    if mismatch is None or mismatch <= limit:
        return None
    return finding(
        "engine_mismatch",
        "warning",
        "Engine and trainer disagree",
        [figure("current_mismatch_kl", mismatch, f"nats per token on equal weights; limit {limit:g}")],
        meaning="The engine samples with other probabilities than the trainer computes, so gradients are wrong.",
        advice="Use one torch_dtype for both, set rollout_importance_sampling_mode, or try the other engine.",
    )


def environment_fails(evidence: Evidence) -> Finding | None:
    """Groups that were dropped because the environment's own code failed."""
    dropped = evidence.dropped.get("env_bug", 0)
    if not dropped or not evidence.opened:
        return None
    share = dropped / evidence.opened
    cause = next((one.partition(_ENV_BUG)[2] for one in evidence.warnings if _ENV_BUG in one), "")
    return finding(
        "environment_fails",
        "problem" if share >= MANY_LOST else "warning",
        "The environment's code fails",
        [
            figure("dropped_env_bug", float(dropped), "groups, every attempt failed in the environment's own code"),
            figure("share", share, f"of opened groups; a problem from {MANY_LOST} on"),
            *([figure("error", cause, "the newest one")] if cause else []),
        ],
        meaning="The environment raises in some states. Groups that reach them are dropped and replaced, so training "
        "and evaluations leave these tasks out.",
        advice="Mend the environment where the error says it; `gigpo env check NAME` plays it without a job.",
    )


def groups_lost(evidence: Evidence) -> Finding | None:
    """Groups that infrastructure drops, or attempts that fail for another reason than the environment's code."""
    lost = evidence.dropped.get("infra", 0) / evidence.opened if evidence.opened else 0.0
    failed = (evidence.recent("failed_attempts") or 0.0) / max(evidence.setting("rollout.groups_per_batch", 1), 1)
    if lost < MANY_LOST and (failed < MANY_FAILED or evidence.dropped.get("env_bug")):
        return None
    return finding(
        "groups_lost",
        "warning",
        "Groups are lost",
        [
            figure("dropped_infra", lost, f"share of opened groups; limit {MANY_LOST}"),
            figure("failed_attempts", failed, f"per trained group, newest batches; limit {MANY_FAILED}"),
        ],
        meaning="Attempts to play groups fail, which costs time and may remove hard tasks.",
        advice="Read the job's warnings for the cause, and `gigpo doctor`.",
    )


def learned_by_heart(evidence: Evidence) -> Finding | None:
    """Success on training tasks that held-out ones do not have."""
    held_out, trained = evidence.evaluations.get("after"), evidence.recent("success")
    if held_out is None or trained is None:
        return None
    apart = trained - held_out["success"]
    if apart < BY_HEART or apart < CLEARLY * held_out["standard_error"]:
        return None
    return finding(
        "learned_by_heart",
        "warning",
        "Training tasks are memorised",
        [
            figure("success", trained, "share of training episodes, newest batches"),
            figure("held_out", held_out["success"], f"share of held-out episodes; limit {BY_HEART} below"),
        ],
        meaning="The policy does much better on tasks that it was trained on than on others.",
        advice="Give the train split more different tasks, or stop earlier (eval_every shows when).",
    )


def no_better_than_chance(evidence: Evidence) -> Finding | None:
    """A trained policy that a random actor equals."""
    after, chance = evidence.evaluations.get("after"), evidence.evaluations.get("random_actor")
    if after is None or chance is None or len(evidence.metrics) < FEW_BATCHES or _above(after, chance):
        return None
    return finding(
        "no_better_than_chance",
        "problem",
        "No better than chance",
        [
            figure("after", after["success"], "share of held-out episodes, trained policy"),
            figure("random_actor", chance["success"], "the same, random admissible actions"),
        ],
        meaning="After training the policy wins no more than random actions do.",
        advice="See the other findings; without any, train longer or with a larger learning_rate.",
    )


def task_not_read(evidence: Evidence) -> Finding | None:
    """A policy that does as well without its task."""
    after, hidden = evidence.evaluations.get("after"), evidence.evaluations.get("task_hidden")
    if after is None or hidden is None or not evidence.metrics or after["success"] < BY_HEART:
        return None
    if _above(after, hidden) or hidden["success"] < SEES_TASK * after["success"]:
        return None
    return finding(
        "task_not_read",
        "warning",
        "The task is not read",
        [
            figure("after", after["success"], "share of held-out episodes, task shown"),
            figure("task_hidden", hidden["success"], "the same, task hidden"),
        ],
        meaning="The policy does equally well without its task, so the environment does not require reading it.",
        advice="If tasks should differ, show the goal only in the task's sentence.",
    )


def _above(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether success is higher by more than chance; where nobody wins, whether the return is."""
    if one["success"] == other["success"] == 0:
        return bool(one["return_mean"] > other["return_mean"])
    error = float((one["standard_error"] ** 2 + other["standard_error"] ** 2) ** 0.5)
    return bool(one["success"] - other["success"] > CLEARLY * error)


PIPELINE_CHECKS = (
    warm_start_fails,
    samples_too_old,
    engine_mismatch,
    environment_fails,
    groups_lost,
    learned_by_heart,
    no_better_than_chance,
    task_not_read,
)
