"""Watched episodes: publishes their steps, and plays requested episodes beside the job's groups."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import cast

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from services.contracts import keys
from services.contracts.arrays import unpack_int32
from services.contracts.messages import ContractError, Episode, OpenedGroup, Step, decode
from services.contracts.observation import KeyedObservation
from services.contracts.watching import (
    FIELD,
    LONGEST_TEXT,
    AnyShown,
    PlayBegan,
    PlayEnded,
    PlayFailed,
    StateReached,
    StepTaken,
    encoded,
)
from services.kit.dead_letters import is_wrong_type, set_key_aside
from services.kit.tasks import ended
from services.kit.values import string_value
from services.rollout.errors import AttemptFailed
from services.rollout.tokens import PolicyTokens

log = structlog.get_logger("rollout")

AT_ONCE = 4
"""Watched episodes that a worker plays side by side, beside its slots: so few do not slow training down."""


class Unwatched(Exception):
    """Nobody watches any more."""


class Onlooker:
    """Tells one episode to whoever watches it.

    Args:
        needed: the episode is played for the onlooker alone: without one, `Unwatched`.
    """

    def __init__(self, redis: Redis, stream: str, tokens: PolicyTokens, *, needed: bool) -> None:
        self._redis, self._stream, self._tokens, self._needed = redis, stream, tokens, needed

    async def began(self, first: KeyedObservation, max_turns: int) -> None:
        """An episode begins."""
        await self.tell(PlayBegan(task=first.task[:LONGEST_TEXT], max_turns=max_turns))

    async def reached(self, step_index: int, observation: KeyedObservation, prompt_ids: bytes) -> None:
        """The policy is asked what to do."""
        await self.tell(
            StateReached(
                step_index=step_index,
                observation=observation.text[:LONGEST_TEXT],
                anchor=observation.anchor,
                admissible_actions=list(observation.admissible_actions),
                prompt=self._tokens.prompt_text(prompt_ids)[:LONGEST_TEXT],
            )
        )

    async def took(self, step: Step) -> None:
        """The policy answered and the environment acted."""
        await self.tell(
            StepTaken(
                step_index=step.step_index,
                reply=self._tokens.reply_text(step.response_ids)[:LONGEST_TEXT],
                action=step.action,
                action_valid=step.action_valid,
                reward=step.reward,
                versions=sorted(set(unpack_int32(step.versions))),
                finish_reason=step.finish_reason,
            )
        )

    async def finished(self, episode: Episode) -> None:
        """The episode is over."""
        await self.tell(
            PlayEnded(
                won=episode.won,
                score=episode.score,
                steps=len(episode.steps),
                return_sum=sum(step.reward for step in episode.steps),
                out_of_turns=episode.truncated,
            )
        )

    async def tell(self, shown: AnyShown) -> None:
        """Add it to the stream, which is there while somebody watches. Raises Unwatched."""
        try:
            entry = await self._redis.xadd(self._stream, {FIELD: encoded(shown)}, nomkstream=True)
        except RedisError as error:
            if self._needed:
                raise Unwatched(str(error)) from error
            log.warning("a watched step could not be published", stream=self._stream, error=repr(error))
            return
        if entry is None and self._needed:
            raise Unwatched("nobody watches any more")


async def onlooker_of(redis: Redis, job_id: str, tokens: PolicyTokens) -> Onlooker | None:
    """Whoever watches the job's evaluation; None: nobody."""
    try:
        watch_id = await string_value(redis, keys.watched(job_id))
    except RedisError as error:
        log.warning("the watchers could not be read", job=job_id, error=repr(error))
        return None
    if not watch_id:
        return None
    return Onlooker(redis, keys.watch(job_id, watch_id.decode()), tokens, needed=False)


class Plays:
    """Plays what was asked for to be watched. What fails there fails the watch and nothing else."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._playing: dict[asyncio.Task[None], str] = {}

    async def take(
        self, job_id: str, tokens: PolicyTokens, play: Callable[[OpenedGroup, Onlooker], Awaitable[None]]
    ) -> None:
        """Begin what waits to be played of a job, as far as there is room."""
        while len(self._playing) < AT_ONCE and (payload := await self._next(keys.plays(job_id))) is not None:
            try:
                group = decode(payload, OpenedGroup)
            except ContractError as error:
                log.warning("a request for a watched episode cannot be read", job=job_id, error=str(error))
                continue
            onlooker = Onlooker(self._redis, keys.watch(job_id, group.group_id), tokens, needed=True)
            task = asyncio.create_task(_played(play, group, onlooker))
            self._playing[task] = job_id
            task.add_done_callback(lambda done: self._playing.pop(done, None))

    async def _next(self, key: str) -> bytes | None:
        """The next play; None: none waits, or the list cannot be read now."""
        try:
            return cast("bytes | None", await self._redis.lpop(key))
        except ResponseError as error:
            if is_wrong_type(error):
                await set_key_aside(self._redis, key, "list")
            else:
                log.warning("plays to be watched cannot be read", key=key, error=str(error))
        except RedisError as error:
            log.warning("plays to be watched cannot be read", key=key, error=repr(error))
        return None

    async def leave(self, job_id: str | None = None) -> None:
        """Stop what is played of a job, or of all."""
        await ended([task for task, job in self._playing.items() if job_id in (None, job)])


async def _played(
    play: Callable[[OpenedGroup, Onlooker], Awaitable[None]], group: OpenedGroup, onlooker: Onlooker
) -> None:
    try:
        try:
            await play(group, onlooker)
        except AttemptFailed as error:
            await onlooker.tell(PlayFailed(message=str(error)))
    except Unwatched:
        log.info("nobody watches any more", group=group.group_id)
    except Exception as error:
        log.exception("a watched episode failed", group=group.group_id)
        await _tell_failed(onlooker, error)


async def _tell_failed(onlooker: Onlooker, error: Exception) -> None:
    try:
        await onlooker.tell(PlayFailed(message=f"{type(error).__name__}: {error}"))
    except Unwatched:
        log.info("nobody watches any more")
