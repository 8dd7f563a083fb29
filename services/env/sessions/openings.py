"""Openings of groups: what was asked for, and what becomes of it."""

import asyncio
from dataclasses import dataclass

from services.env.sessions.leases import Group
from services.env.workers.wire import EpisodeSpec, History


@dataclass(frozen=True)
class Start:
    """The state in which the sessions of a group begin, and their number."""

    spec: EpisodeSpec
    n: int
    history: History


@dataclass(eq=False)
class Opening:
    """One OpenGroup or Rebuild, under way or done, so that its repetition meets the same group."""

    start: Start
    group: asyncio.Task[Group]
