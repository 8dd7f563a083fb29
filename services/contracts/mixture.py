"""Members of a mixture: environments, or data sets, that one job trains on together."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from itertools import accumulate

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from services.contracts import ids
from services.contracts.ids import Purpose
from services.contracts.plain_errors import MEMBER_PATTERN

MOST_MEMBERS = 32
MOST_ROWS = 1_000
"""Rows of kwargs that one member, or a job without a mixture, has."""

Rows = list[dict[str, JsonValue]]


class Member(BaseModel):
    """One member. A key that it leaves out is as the section `environment` has it."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    member: str = Field(pattern=MEMBER_PATTERN)
    """Its name, in metrics and evaluations."""
    weight: float = Field(1.0, gt=0, le=1e6)
    """How often a group is of this member, relative to the others."""
    environment: str | None = None
    environment_kwargs: dict[str, JsonValue] | None = None
    environment_rows: Rows | None = Field(None, max_length=MOST_ROWS)
    max_turns: int | None = Field(None, ge=1)
    train_split: str | None = None
    eval_split: str | None = None
    prompt_template: str | None = None
    system: str | None = None

    @property
    def changes(self) -> dict[str, object]:
        """Keys of the section that it replaces."""
        return {name: value for name, value in self if name not in ("member", "weight") and value is not None}


def drawn_member(members: Sequence[Member], seed: int, purpose: Purpose, cursor: int) -> Member:
    """The member of the group at a cursor: a function of the job's seed and the weights only."""
    ends = list(accumulate(one.weight for one in members))
    point = ids.member_point(seed, purpose, cursor) * ends[-1]
    return members[min(bisect.bisect_right(ends, point), len(members) - 1)]
