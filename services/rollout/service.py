"""The rollout worker: finds the active jobs, plays their groups, drains.

consumer.py reads a job's groups, player.py plays a group, episode.py plays an episode; environments.py and inference.py
talk to the two services that an episode calls in turn.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from pathlib import Path

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.kit.tasks import ended
from services.ledger import Ledger
from services.ledger.active_jobs import active_jobs
from services.ledger.playability import accept_job, refuse_job
from services.ledger.warnings import Warnings
from services.rollout.agents import Agents
from services.rollout.consumer import GroupConsumer
from services.rollout.errors import JobNotReady, TokenizerError
from services.rollout.playbook import load_playbooks
from services.rollout.player import Player, Players
from services.rollout.ports import Environments, Inference
from services.rollout.settings import Settings
from services.rollout.slots import EpisodeSlots
from services.rollout.tokens import PolicyTokens
from services.rollout.watching import Plays, onlooker_of

log = structlog.get_logger("rollout")

UNLUCKY = (OSError, RedisError, MemoryError)
"""Errors of making a job's playbook that may go away by themselves; all others lie in its files and settings."""


class _ServedJob:
    """One job while this worker plays it."""

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.consumer: GroupConsumer | None = None
        self.playing: tuple[PolicyTokens, Players] | None = None
        self.reading: asyncio.Task[None] | None = None
        self.trouble = ""
        """Why it cannot be played, said once."""


class RolloutWorker:
    """Plays the groups of every active job.

    Args:
        worker: this process's name, unique among the live workers.
        agents: the sessions of outside agents.
    """

    def __init__(
        self,
        redis: Redis,
        environments: Environments,
        inference: Inference,
        settings: Settings,
        worker: str,
        *,
        agents: Agents,
    ) -> None:
        self._redis, self._environments, self._inference, self._agents = redis, environments, inference, agents
        self._settings, self._worker = settings, worker
        self._slots = EpisodeSlots(settings.max_episodes)
        self._jobs: dict[str, _ServedJob] = {}
        self._warnings = Warnings(redis, "rollout")
        self._plays = Plays(redis)
        self.turns = 0
        """Looks at the active jobs since the start."""

    def detail(self) -> dict[str, object]:
        """The detail of the worker's heartbeat."""
        return {"jobs": sorted(self._jobs), "episodes": self._slots.taken, "max_episodes": self._slots.total}

    def load(self) -> dict[str, int]:
        """Numbers of `jobs` that are played, of `episodes` in flight, and of `max_episodes` that may be."""
        return {"jobs": len(self._jobs), "episodes": self._slots.taken, "max_episodes": self._slots.total}

    async def run(self, stop: asyncio.Event) -> None:
        """Play until `stop`, then finish what is under way, for `drain_s` at most."""
        while not stop.is_set():
            await self._follow_jobs()
            self.turns += 1
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), self._settings.discover_every_s)
        await self._drain()

    async def _follow_jobs(self) -> None:
        active = await active_jobs(self._redis)
        for job_id in [job_id for job_id in self._jobs if job_id not in active]:
            await self._leave(job_id)
        for job_id in sorted(active):
            served = self._jobs.get(job_id)
            if served is None or served.reading is None or served.reading.done():
                await self._join(job_id)
        for job_id, served in self._jobs.items():
            if served.playing is not None:
                tokens, players = served.playing
                await self._plays.take(job_id, tokens, players.show)

    async def _join(self, job_id: str) -> None:
        served = self._jobs.setdefault(job_id, _ServedJob())
        if served.reading is not None and (failed := served.reading.exception()) is not None:
            log.error("reading a job's groups failed, starting again", job=job_id, error=repr(failed))
        try:
            if served.consumer is None:
                served.playing = await self._playing(job_id)
                served.consumer = self._consumer(job_id, served.playing[1])
        except JobNotReady:
            return
        except Exception as error:  # noqa: BLE001 - other jobs go on; this one is tried again at every look
            await self._tell_unplayable(job_id, served, error)
            return
        await accept_job(self._redis, job_id, self._worker)
        served.reading = asyncio.create_task(served.consumer.consume(served.stop))

    async def _tell_unplayable(self, job_id: str, served: _ServedJob, error: Exception) -> None:
        """Told once for each cause; one of the job's own files and settings ends it, the trainer sees to that."""
        if served.trouble == repr(error):
            return
        served.trouble = repr(error)
        log.error("a job cannot be played", job=job_id, error=repr(error))
        sentence = str(error) if isinstance(error, TokenizerError) else f"{type(error).__name__}: {error}"
        await self._warnings.count(job_id, f"the job cannot be played: {sentence}")
        if not isinstance(error, UNLUCKY):
            await refuse_job(self._redis, job_id, self._worker, sentence)

    async def _playing(self, job_id: str) -> tuple[PolicyTokens, Players]:
        playbooks = await load_playbooks(self._redis, Path(self._settings.data_dir), job_id)
        tokens = next(iter(playbooks.values())).tokens
        if tokens.warning is not None:
            await self._warnings.once(job_id, "stop tokens", tokens.warning)
        players = {
            member: Player(
                playbook,
                Ledger(self._redis, job_id),
                self._environments,
                self._inference,
                self._worker,
                warnings=self._warnings,
                watching=partial(onlooker_of, self._redis, job_id, tokens),
                agents=self._agents,
            )
            for member, playbook in playbooks.items()
        }
        templates = sorted({playbook.prompts.wording.name for playbook in playbooks.values()})
        log.info("started playing a job", job=job_id, templates=templates)
        return tokens, Players(players)

    def _consumer(self, job_id: str, player: Players) -> GroupConsumer:
        return GroupConsumer(
            self._redis,
            job_id,
            self._worker,
            play=player.play,
            slots=self._slots,
            reclaim_idle_s=self._settings.reclaim_idle_s,
        )

    async def _leave(self, job_id: str) -> None:
        """The job ended: nobody wants its groups any more."""
        served = self._jobs.pop(job_id)
        await self._plays.leave(job_id)
        if served.reading is not None:
            await ended([served.reading])
        if served.consumer is not None:
            await served.consumer.abandon()
        log.info("stopped playing a job", job=job_id)

    async def _drain(self) -> None:
        served = [job for job in self._jobs.values() if job.consumer is not None]
        log.info("draining", jobs=len(served), episodes=self._slots.taken)
        await self._plays.leave()
        for job in served:
            job.stop.set()
        finishing = [job.consumer.finish() for job in served if job.consumer is not None]
        readings = [job.reading for job in served if job.reading is not None]
        try:
            async with asyncio.timeout(self._settings.drain_s):
                await asyncio.gather(*finishing, *readings, return_exceptions=True)
        except TimeoutError:
            log.warning("groups are left to other workers", episodes=self._slots.taken)
        for job in served:
            if job.consumer is not None:
                await job.consumer.abandon()
