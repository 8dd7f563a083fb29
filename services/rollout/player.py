"""Plays one group: opens its sessions, plays its episodes concurrently, and stores each in the ledger when it ends.

Every failure fails the attempt with its cause. Only the environment's own outcome is a reward.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping

import structlog
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from services.contracts.agents import OUTSIDE
from services.contracts.ids import Purpose
from services.contracts.messages import Episode, OpenedGroup
from services.contracts.observation import KeyedObservation
from services.kit.tracing import doing
from services.ledger import Attempt, MoveRefused
from services.rollout.actors import Actor, PolicyActor, RandomActor
from services.rollout.agent_play import AgentPlay
from services.rollout.agents import Agents
from services.rollout.episode import EpisodePlay, Seat
from services.rollout.errors import AttemptFailed
from services.rollout.metrics import ATTEMPTS, COMPLETE, REPLACED
from services.rollout.playbook import Playbook
from services.rollout.ports import Environments, EpisodeLedger, Inference, Opening, Warnings
from services.rollout.watching import Onlooker

log = structlog.get_logger("rollout")

CONCURRENT_WRITES = 16
"""Episodes that all end in one turn are stored through so many connections."""

OUTGROWN = "max_context_tokens: conversations outgrow {} tokens, and {}. The metric context_overflows says how often."
OUTGROWN_BY = {
    "restart": "begin anew with the task, history_length turns and the observation",
    "end": "their episodes end there",
}
CUT = (
    "max_prompt_tokens: observations are longer than {} tokens allow, and the policy sees only their beginning; a "
    "larger max_prompt_tokens shows more. The metric cut_prompt_share says how many."
)


class Players:
    """Plays the groups of one job, each with the player of its member.

    Args:
        by_member: of a job without a mixture a single one, under the empty name.
    """

    def __init__(self, by_member: Mapping[str, Player]) -> None:
        self._by_member = by_member

    async def play(self, group: OpenedGroup) -> None:
        """Play as `Player.play` does."""
        await self._by_member[group.member].play(group)

    async def show(self, group: OpenedGroup, onlooker: Onlooker) -> None:
        """Show as `Player.show` does."""
        await self._by_member[group.member].show(group, onlooker)


class Player:
    """Plays the groups of one job, or of one member of its mixture.

    Args:
        worker: this process's name, kept with every episode.
        warnings: tells the job's user; None: nobody is told.
        watching: finds whoever watches the job's evaluation; None: nobody does.
        agents: holds the sessions of outside agents; None: no job of theirs is played.
    """

    def __init__(
        self,
        playbook: Playbook,
        ledger: EpisodeLedger,
        environments: Environments,
        inference: Inference,
        worker: str,
        *,
        warnings: Warnings | None = None,
        watching: Callable[[], Awaitable[Onlooker | None]] | None = None,
        agents: Agents | None = None,
    ) -> None:
        self._watching, self._agents = watching, agents
        self._playbook, self._ledger, self._worker = playbook, ledger, worker
        self._environments, self._warnings = environments, warnings
        self._actors: dict[str, Actor] = {
            "policy": PolicyActor(inference),
            "random": RandomActor(playbook.tokens, playbook.projection),
        }
        self._writing = asyncio.Semaphore(CONCURRENT_WRITES)

    async def play(self, group: OpenedGroup) -> None:
        """Play a group to its end, or give this attempt up with its cause.

        Returns quietly when another attempt replaced this one. Cancelled, it leaves the attempt open, for whoever
        claims the group next. No lease outlives the call.

        Raises:
            MoveRefused: the group was already played or dropped before this attempt began.
        """
        attempt = await self._ledger.start(group.group_id, self._worker)
        job, name = self._playbook.job_id, group.group_id
        with doing("attempt", group.trace, job=job, group=name, attempt=attempt.number):
            try:
                await self._play_attempt(group, attempt)
            except MoveRefused as refused:
                ATTEMPTS.labels(REPLACED).inc()
                log.info("an attempt was replaced", why=str(refused))

    async def show(self, group: OpenedGroup, onlooker: Onlooker) -> None:
        """Play one episode for an onlooker alone: nothing is stored, and the ledger knows nothing of it.

        Raises:
            AttemptFailed, Unwatched.
        """
        if self._playbook.spec.environment.interaction == OUTSIDE:
            raise AttemptFailed(f"interaction: {OUTSIDE}: agents of your own play this job, watch those")
        unrecorded = Attempt(0, 1)
        opened = await self._environments.open(self._opening(group, unrecorded))
        try:
            sentence = await self._other_task(group, unrecorded) if group.task_view == "shuffled" else None
            seat = Seat(group, unrecorded, 0, opened.leases[0], sentence)
            playbook = self._playbook.with_tools(opened.tools_json)
            await self._episode_play(playbook, seat, self._actors["policy"], onlooker).play(opened.observation)
        finally:
            self._environments.release(opened.leases)

    async def _play_attempt(self, group: OpenedGroup, attempt: Attempt) -> None:
        try:
            await self._play_episodes(group, attempt)
            ATTEMPTS.labels(COMPLETE).inc()
        except Exception as error:
            decisive = _decisive(error)
            if isinstance(decisive, MoveRefused):
                raise decisive from None
            cause = str(decisive) if isinstance(decisive, AttemptFailed) else repr(decisive)
            log.warning(
                "an attempt failed",
                cause=cause,
                exc_info=None if isinstance(decisive, AttemptFailed) else decisive,
            )
            known = decisive if isinstance(decisive, AttemptFailed) else AttemptFailed()
            ATTEMPTS.labels(known.reason.value).inc()
            lost = known.lost or isinstance(decisive, RedisConnectionError | RedisTimeoutError)
            await self._ledger.fail(group.group_id, attempt.number, cause, reason=known.reason, lost=lost)

    async def _play_episodes(self, group: OpenedGroup, attempt: Attempt) -> None:
        opened = await self._environments.open(self._opening(group, attempt))
        try:
            playbook = self._playbook.with_tools(opened.tools_json)
            sentence = await self._other_task(group, attempt) if group.task_view == "shuffled" else None
            async with asyncio.TaskGroup() as playing:
                for k, lease in enumerate(opened.leases):
                    seat = Seat(group, attempt, k, lease, sentence)
                    playing.create_task(self._play_seat(seat, opened.observation, playbook))
        finally:
            self._environments.release(opened.leases)

    async def _play_seat(self, seat: Seat, first: KeyedObservation, playbook: Playbook) -> None:
        with doing("episode", episode=seat.episode_id):
            await self._play_episode(seat, first, playbook)

    async def _play_episode(self, seat: Seat, first: KeyedObservation, playbook: Playbook) -> None:
        actor = self._actors.get(seat.group.actor)
        if actor is None:
            raise AttemptFailed(f"actor: want one of {sorted(self._actors)}, got {seat.group.actor!r}")
        may_be_watched = self._watching if seat.group.purpose == Purpose.EVALUATION else None
        onlooker = None if may_be_watched is None else await may_be_watched()
        episode = await self._episode_play(playbook, seat, actor, onlooker).play(first)
        await self._warn(episode)
        async with self._writing:
            await self._ledger.record(episode, seat.group)

    async def _warn(self, episode: Episode) -> None:
        """Tell the user, once for each, that the policy was not shown everything."""
        if self._warnings is None:
            return
        job, spec = self._playbook.job_id, self._playbook.spec
        if episode.cut_prompts:
            await self._warnings.once(job, "cut prompts", CUT.format(spec.environment.max_prompt_tokens))
        if episode.context_overflows:
            what = OUTGROWN_BY[spec.environment.context_overflow]
            message = OUTGROWN.format(spec.prompt_and_response_tokens, what)
            await self._warnings.once(job, "outgrown conversations", message)

    def _episode_play(self, playbook: Playbook, seat: Seat, actor: Actor, onlooker: Onlooker | None) -> EpisodePlay:
        outside = playbook.spec.environment.interaction == OUTSIDE and seat.group.actor == "policy"
        if outside and self._agents is not None:
            return AgentPlay(playbook, seat, actor, self._environments, self._worker, self._agents)
        return EpisodePlay(playbook, seat, actor, self._environments, self._worker, onlooker=onlooker)

    async def _other_task(self, group: OpenedGroup, attempt: Attempt) -> str:
        """The task sentence of the world that `sentence_seed` names."""
        if group.sentence_seed is None:
            raise AttemptFailed("task_view: shuffled needs a sentence_seed, got none")
        other = await self._environments.open(self._opening(group, attempt, other_world=True))
        self._environments.release(other.leases)
        return other.observation.task

    def _opening(self, group: OpenedGroup, attempt: Attempt, *, other_world: bool = False) -> Opening:
        key = f"{self._playbook.job_id}/{group.group_id}/{attempt.number}/{self._worker}"
        return Opening(
            key=f"{key}/other" if other_world else key,
            environment=self._playbook.spec.environment.environment,
            kwargs=self._playbook.kwargs(group),
            split=group.split,
            seed=(group.sentence_seed or 0) if other_world else group.task_seed,
            n=1 if other_world else group.n,
            job_id=self._playbook.job_id,
        )


def _decisive(error: Exception) -> Exception:
    """The failure that decides among those side by side: a refused move first, then an unknown failure, then one that
    was not merely lost."""
    leaves = list(_leaves(error))
    refused = [leaf for leaf in leaves if isinstance(leaf, MoveRefused)]
    unknown = [leaf for leaf in leaves if not isinstance(leaf, AttemptFailed)]
    own = [leaf for leaf in leaves if isinstance(leaf, AttemptFailed) and not leaf.lost]
    return (refused or unknown or own or leaves)[0]


def _leaves(error: Exception) -> Iterator[Exception]:
    if isinstance(error, ExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error
