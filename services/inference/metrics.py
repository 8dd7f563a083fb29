"""Prometheus metrics of an inference replica, made from its counters."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import Histogram
from prometheus_client.core import Metric

from services.contracts.policy import ReplicaStatus
from services.inference.sampler import Counters
from services.kit.metrics import SECONDS, counter, gauge

LOAD_SECONDS = Histogram(
    "gigpo_inference_load_seconds", "Time from noticing a policy version until it was served.", buckets=SECONDS
)
PAUSE_SECONDS = Histogram(
    "gigpo_inference_pause_seconds", "Time that sampling was paused for a policy version.", buckets=SECONDS
)
STATES = ("idle", "starting", "serving", "draining")
ENDINGS = ("sampled", "repeated", "expired", "refused", "failed")


def families(status: ReplicaStatus, counters: Counters, outstanding: int, unreadable: int) -> Iterable[Metric]:
    """The replica's state and counters.

    Args:
        outstanding: prompts that wait or are being sampled.
        unreadable: requests that were set aside.
    """
    states = {(state,): float(state == status.state) for state in STATES}
    yield gauge("gigpo_inference_state", "1 for the state that the replica is in.", states, ["state"])
    yield gauge("gigpo_inference_prompts_outstanding", "Prompts that wait or are being sampled.", outstanding)
    versions = {(status.job_id,): float(status.version)} if status.job_id is not None else {}
    yield gauge("gigpo_inference_policy_version", "Policy version that is served.", versions, ["job"])
    ended = {(name,): float(getattr(counters, name)) for name in ENDINGS}
    yield counter("gigpo_inference_prompts", "Prompts by what became of them.", ended, ["outcome"])
    yield counter("gigpo_inference_tokens", "Tokens that were sampled.", counters.tokens)
    yield counter("gigpo_inference_engine_failures", "Failures of the engine.", counters.engine_failures)
    yield counter("gigpo_inference_requests_unreadable", "Requests that were set aside.", unreadable)
