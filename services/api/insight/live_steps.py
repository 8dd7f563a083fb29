"""The steps of a watched episode as server-sent events, each state with statistics from the job's stored rollouts."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import cast

import msgspec
from fastapi.sse import ServerSentEvent
from redis.asyncio import Redis

from services.api.insight.played import Played
from services.api.insight.state_table import Tally, state_key
from services.api.insight.state_views import state_view
from services.api.insight.watching import Watch, keep_watch
from services.api.sql.database import Database
from services.api.sql.tables import JobRow
from services.api.sync.event_bus import News
from services.contracts.rest.insight import SeenState
from services.contracts.states import TERMINAL, JobState
from services.contracts.versions import ContractError
from services.contracts.watching import FIELD, LAST, AnyShown, PlayBegan, PlayFailed, StateReached, decoded

LOOK_S = 0.25
STATE_LOOKS = 8
"""Looks without news between two questions after the state of the job that plays."""
_PAGE = 100


class Known:
    """The facts about states from a job's stored rollouts.

    Args:
        played: None: there are none.
    """

    def __init__(self, played: Played | None) -> None:
        self._played = played
        self._by_anchor: dict[str, dict[str, Tally]] = {}
        for state, actions in played.table.states.items() if played else ():
            merged = self._by_anchor.setdefault(played.table.texts[state][1] if played else "", {})
            for action, tally in actions.items():
                merged[action] = merged[action].with_more(tally) if action in merged else tally

    def of(self, task: str, anchor: str) -> SeenState | None:
        """A state's visits under its task, else under any; None: it was never visited."""
        if self._played is None:
            return None
        state = state_key(task, anchor)
        own = self._played.table.at(state)
        actions = own or self._by_anchor.get(anchor)
        if not actions:
            return None
        view = state_view(self._played, state, actions, (task, anchor))
        return SeenState(of_task=bool(own), batches=self._played.batches, state=view)


async def live_steps(
    redis: Redis, database: Database, news: News, watch: Watch, known: Known, after: str = ""
) -> AsyncGenerator[ServerSentEvent, None]:
    """Everything that was and is told, as events later than the id `after`; ends with the episode.

    Each has its id, its kind as `event`, and JSON {kind, at_unix_s, data} as `data`.
    """
    position, quiet, task = "", 0, ""
    with news.follow("") as follower:  # it follows no job: it hears the end of the process alone
        while not follower.over:
            entries = await _told(redis, watch, position)
            for position, shown in entries:
                task = shown.task if isinstance(shown, PlayBegan) else task
                if _is_later(position, after):
                    yield _event(position, shown, known, task)
                if isinstance(shown, LAST):
                    return
            if not await keep_watch(redis, watch):
                yield _event(position, PlayFailed(message="the watch has ended"), known, task)
                return
            quiet = 0 if entries else quiet + 1
            if quiet % STATE_LOOKS == STATE_LOOKS - 1 and (over := await _over(database, watch)) is not None:
                if await _told(redis, watch, position):
                    continue  # the event came meanwhile
                yield _event(position, PlayFailed(message=over), known, task)
                return
            await follower.listen(LOOK_S)


async def _told(redis: Redis, watch: Watch, position: str) -> list[tuple[str, AnyShown]]:
    """The messages after the position, with their ids."""
    read = await redis.xrange(watch.stream, f"({position}" if position else "-", count=_PAGE)
    entries = cast("list[tuple[bytes, dict[bytes, bytes]]]", read or [])
    return [(entry_id.decode(), _shown(fields)) for entry_id, fields in entries]


def _shown(fields: Mapping[bytes, bytes]) -> AnyShown:
    """The message in an entry; one that cannot be read ends the watch with the cause."""
    try:
        return decoded(fields.get(FIELD.encode(), b""))
    except ContractError as error:
        return PlayFailed(message=str(error))


async def _over(database: Database, watch: Watch) -> str | None:
    """Why nobody will play it any more; None: somebody may."""
    async with database.read() as session:
        row = await session.get(JobRow, watch.player_job)
        state = None if row is None else JobState(row.state)
        error = None if row is None else row.error
    if state is not None and state not in TERMINAL:
        return None
    ended = "is gone" if state is None else f"ended as {state}"
    return f"the job {watch.player_job} {ended} before the episode was over" + (f": {error}" if error else "")


def _is_later(position: str, after: str) -> bool:
    def number(text: str) -> tuple[int, ...]:
        return tuple(int(part) for part in text.split("-"))

    return not after or number(position) > number(after)


def _event(position: str, shown: AnyShown, known: Known, task: str) -> ServerSentEvent:
    kind, data = str(shown.__struct_config__.tag), shown.data()
    if isinstance(shown, StateReached):
        seen = known.of(task, shown.anchor)
        data["seen"] = None if seen is None else seen.model_dump(mode="json")
    ms = int(position.partition("-")[0] or 0)
    body: dict[str, object] = {"kind": kind, "at_unix_s": ms / 1000, "data": data}
    return ServerSentEvent(raw_data=msgspec.json.encode(body).decode(), event=kind, id=position)
