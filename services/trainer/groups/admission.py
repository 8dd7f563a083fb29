"""Decides how many training groups may be opened now, so that none becomes too stale to train. Pure functions."""

from __future__ import annotations

from services.contracts.job import JobSpec


def groups_admitted(
    *, version: int, max_staleness: int, groups_per_batch: int, total_batches: int, extra_groups: int = 0
) -> int:
    """How many trainable groups may exist in all once policy `version` is published.

    Those of batches 0 .. version + max_staleness: batch b is trained by version b, so a group that version b -
    max_staleness samples is at most `max_staleness` versions old then. `extra_groups` come on top, of which some may
    grow too old.
    """
    if not total_batches:
        return 0
    return min(version + max_staleness + 1, total_batches) * groups_per_batch + extra_groups


def cursors_to_open(spec: JobSpec, *, version: int, next_cursor: int, lost: int) -> range:
    """The cursors to open now, in order.

    Args:
        version: newest policy version that a replica serves.
        next_cursor: cursors below it were opened.
        lost: those of them that were dropped; each makes room for one more.
    """
    admitted = groups_admitted(
        version=version,
        max_staleness=spec.rollout.max_staleness,
        groups_per_batch=spec.rollout.groups_per_batch,
        total_batches=spec.training.total_batches,
        extra_groups=spec.rollout.extra_groups,
    )
    return range(next_cursor, max(next_cursor, admitted + lost))
