"""States of a group and the moves between them.

    OPEN -> GENERATING -> COMPLETE -> SCORED -> ASSIGNED -> CONSUMED
      ^         |
      +---------+  a failed attempt, while attempts are left
    any live state -> DROPPED(stale | filtered | infra | env_bug | unplayable | cancelled)

Invariant, true after every move: opened = consumed + dropped(by reason) + live.
"""

from __future__ import annotations

from enum import StrEnum


class GroupState(StrEnum):
    """The state of a group."""

    OPEN = "OPEN"
    """Announced on `{job}:groups`; nobody plays it."""
    GENERATING = "GENERATING"
    """A rollout worker plays its episodes."""
    COMPLETE = "COMPLETE"
    """All n episodes are stored; announced on `{job}:episodes`."""
    SCORED = "SCORED"
    """Its advantages are stored; announced on `{job}:scored`."""
    ASSIGNED = "ASSIGNED"
    """The manifest of one optimizer batch holds it; its payload is kept until a checkpoint holds that batch's
    effect."""
    CONSUMED = "CONSUMED"
    """Its effect is durable; payload gone."""
    DROPPED = "DROPPED"
    """It is never trained; it counts under its reason."""


class DropReason(StrEnum):
    """Why a group was not trained."""

    STALE = "stale"
    """Sampled by a policy version too old to train on."""
    FILTERED = "filtered"
    """Left out on purpose: it carries no signal."""
    INFRA = "infra"
    """Infrastructure failed on the last attempt; never turned into a reward."""
    ENV_BUG = "env_bug"
    """The environment's own code failed on the last attempt."""
    UNPLAYABLE = "unplayable"
    """The environment's texts do not fit the job: a prompt is longer than its budget, or nothing is admissible."""
    CANCELLED = "cancelled"
    """The job ended first."""
