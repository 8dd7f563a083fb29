"""Prometheus metrics of the advantage service."""

from __future__ import annotations

from prometheus_client import Counter, Histogram

from services.kit.metrics import SECONDS

GROUPS = Counter("gigpo_advantage_groups", "Groups that were taken up, by outcome.", ["outcome"])
SCORED, REFUSED, GIVEN_UP, DEAD = "scored", "refused", "given_up", "dead_letter"
"""Outcomes: stored; moved by somebody else meanwhile; comes again; set aside."""
SCORE_SECONDS = Histogram(
    "gigpo_advantage_score_seconds", "Time that one call took to score its groups together.", buckets=SECONDS
)
BATCH_GROUPS = Histogram(
    "gigpo_advantage_batch_groups", "Groups that were scored together.", buckets=(1, 2, 4, 8, 16, 32, 64, 128)
)
