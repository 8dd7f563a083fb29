"""Prometheus metrics of a rollout worker."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from prometheus_client import Counter, Histogram
from prometheus_client.core import Metric

from services.kit.metrics import SECONDS, gauge

STEP_SECONDS = Histogram(
    "gigpo_rollout_step_seconds",
    "Time that an episode waited for one step of its environment.",
    ["environment"],
    buckets=SECONDS,
)
GENERATE_SECONDS = Histogram(
    "gigpo_rollout_generate_seconds", "Time that an episode waited for one reply of its actor.", buckets=SECONDS
)
TOKENS = Counter("gigpo_rollout_tokens", "Tokens of played steps, prompts and responses.", ["kind"])
ATTEMPTS = Counter("gigpo_rollout_attempts", "Attempts to play a group that have ended, by outcome.", ["outcome"])
COMPLETE, REPLACED = "complete", "replaced"
"""Outcomes besides the values of `DropReason`."""


def families(load: Mapping[str, int], services: Sequence[Mapping[str, object]]) -> Iterable[Metric]:
    """The gauges.

    Args:
        load: `RolloutWorker.load`.
        services: `GrpcEnvironments.services`.
    """
    yield gauge("gigpo_rollout_episodes", "Episodes that are being played.", load["episodes"])
    yield gauge("gigpo_rollout_episodes_limit", "Episodes that may be played at once.", load["max_episodes"])
    yield gauge("gigpo_rollout_jobs", "Jobs whose groups the worker plays.", load["jobs"])
    states = dict.fromkeys((("usable",), ("draining",), ("unreachable",)), 0.0)
    for one in services:
        states["unreachable" if not one["reachable"] else "draining" if one["draining"] else "usable",] += 1
    about = "Environment services that the worker knows, by state."
    yield gauge("gigpo_rollout_env_services", about, states, ["state"])
