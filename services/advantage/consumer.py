"""The edge: reads complete groups of all active jobs in micro-batches and writes their scores to the ledger."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import structlog
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from gigpo_core import AdvantageConfig, GigpoError
from services.advantage.metrics import BATCH_GROUPS, DEAD, GIVEN_UP, GROUPS, REFUSED, SCORE_SECONDS, SCORED
from services.advantage.service import FinishedGroup, advantage_config, finished_group, score_groups
from services.advantage.settings import Settings
from services.contracts import keys
from services.contracts.messages import CompleteGroup, ScoredGroup, decode
from services.contracts.stored_spec import read_spec
from services.kit.streams import Entry, StreamConsumer
from services.kit.tracing import Span, begun
from services.kit.values import string_value
from services.ledger import Ledger, LedgerSpoiled, MoveRefused
from services.ledger.active_jobs import active_jobs
from services.ledger.ledger import ADVANTAGE
from services.ledger.warnings import Warnings
from services.step_batch import GroupFault

log = structlog.get_logger("advantage")


@dataclass(frozen=True)
class Delivered:
    """One entry of one job's stream of complete groups."""

    job: str
    source: StreamConsumer[CompleteGroup]
    entry: Entry[CompleteGroup]


@dataclass(frozen=True)
class Loaded:
    """A delivered group with all that its score depends on."""

    delivered: Delivered
    group: FinishedGroup
    config: AdvantageConfig


class Consumer:
    """Reads, scores, writes; acknowledges an entry only through the ledger's move, so a kill loses nothing."""

    def __init__(self, redis: Redis, settings: Settings, name: str) -> None:
        self._redis, self._settings, self._name = redis, settings, name
        self._queue: asyncio.Queue[Delivered] = asyncio.Queue(settings.max_groups)
        self._configs: dict[str, AdvantageConfig] = {}
        self.scored = 0
        """Groups scored since the start."""
        self.turns = 0
        """Looks for groups since the start."""

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop`, then finish what was read. Raises what Redis raises after its retries."""
        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(self._follow_jobs(stop))
            while not (reading.done() and self._queue.empty()):
                self.turns += 1
                if batch := await self._micro_batch():
                    await self._score(batch)

    async def _follow_jobs(self, stop: asyncio.Event) -> None:
        readers: dict[str, asyncio.Task[None]] = {}
        ended: dict[str, asyncio.Event] = {}
        async with asyncio.TaskGroup() as tasks:
            while not stop.is_set():
                active = await active_jobs(self._redis)
                for job in [job for job in readers if job not in active]:
                    ended.pop(job).set()
                    del readers[job]
                    self._configs.pop(job, None)
                for job in sorted(active - readers.keys()):
                    ended[job] = asyncio.Event()
                    readers[job] = tasks.create_task(self._read(job, ended[job]))
                await _sleep_until(stop, self._settings.jobs_poll_s)
                for reader in readers.values():
                    if reader.done():  # the group's cancellation may get lost, see `kit.tasks.ended`
                        reader.result()
            for event in ended.values():
                event.set()

    async def _read(self, job: str, end: asyncio.Event) -> None:
        source = StreamConsumer(
            self._redis,
            keys.episodes_stream(job),
            ADVANTAGE,
            self._name,
            decode=partial(decode, kind=CompleteGroup),
            refused=partial(Warnings(self._redis, "advantage").warn, job),
            reclaim_idle_ms=int(self._settings.reclaim_idle_s * 1_000),
            max_deliveries=self._settings.max_deliveries,
        )
        while not end.is_set():
            try:
                entries = await source.read(self._settings.max_groups)
            except ResponseError as error:  # the failure concerns this job's keys: the other jobs go on
                log.error("a job's groups cannot be read", job=job, error=str(error))
                await _sleep_until(end, self._settings.jobs_poll_s)
                continue
            for entry in entries:
                await self._queue.put(Delivered(job, source, entry))

    async def _micro_batch(self) -> list[Delivered]:
        """The next groups: a first one, and those that come within `max_wait_s` of it; empty when none comes soon."""
        batch: list[Delivered] = []
        wait_s = 0.2  # then `run` looks whether it should stop
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_s
        while len(batch) < self._settings.max_groups:
            try:
                batch.append(await asyncio.wait_for(self._queue.get(), max(deadline - loop.time(), 0.0)))
            except TimeoutError:
                break
            if len(batch) == 1:
                deadline = loop.time() + self._settings.max_wait_s
        return batch

    async def _score(self, batch: Sequence[Delivered]) -> None:
        loaded = [found for found in await asyncio.gather(*map(self._load, batch)) if found is not None]
        alike: dict[AdvantageConfig, list[Loaded]] = defaultdict(list)
        for one in loaded:
            alike[one.config].append(one)
        for config, members in alike.items():
            await self._score_together(config, members)

    async def _score_together(self, config: AdvantageConfig, members: list[Loaded]) -> None:
        groups = [member.group for member in members]
        spans = [_begun(member.delivered) for member in members]
        try:
            with SCORE_SECONDS.time():
                scores = await asyncio.to_thread(score_groups, groups, config, self._settings.device)
            BATCH_GROUPS.observe(len(groups))
        except Exception as error:  # noqa: BLE001 - whatever scoring raises is the fault of what is scored
            if len(members) == 1:
                await self._give_up(members[0].delivered, f"group {groups[0].group_id}: {error}")
                return
            for member in members:  # one of them is wrong, or all together are too large
                await self._score_together(config, [member])
            return
        finally:
            for span in spans:
                span.end()
        await asyncio.gather(*(self._store(one.delivered, score) for one, score in zip(members, scores, strict=True)))

    async def _load(self, delivered: Delivered) -> Loaded | None:
        complete, ledger = delivered.entry.payload, Ledger(self._redis, delivered.job)
        try:
            payloads = await ledger.episodes_of(complete.group_id)
            if not payloads and complete.group_id not in await ledger.live():
                await delivered.source.ack(delivered.entry.id)  # the group was dropped meanwhile
                return None
            group = finished_group(complete.group_id, complete.purpose, complete.cursor, payloads)
            return Loaded(delivered, group, await self._config(delivered.job))
        except (GigpoError, ValueError, ResponseError) as error:
            await self._give_up(delivered, str(error))
            return None

    async def _config(self, job: str) -> AdvantageConfig:
        if job not in self._configs:
            document = await string_value(self._redis, keys.spec(job))
            if document is None:
                raise GroupFault(f"job {job} has no spec")
            spec = read_spec(document)
            self._configs[job] = advantage_config(spec.algorithm, spec.rewards)
        return self._configs[job]

    async def _store(self, delivered: Delivered, score: ScoredGroup) -> None:
        try:
            await Ledger(self._redis, delivered.job).score(score)
            self.scored += 1
            GROUPS.labels(SCORED).inc()
        except MoveRefused as error:  # dropped while it was computed, or stored before with other bytes
            GROUPS.labels(REFUSED).inc()
            log.warning("score refused", job=delivered.job, group=score.group_id, cause=str(error))
        except (LedgerSpoiled, ResponseError) as error:
            await self._give_up(delivered, f"group {score.group_id}: its scores cannot be stored: {error}")
            return
        await delivered.source.ack(delivered.entry.id)  # the move did it already, unless the entry came again after it

    async def _give_up(self, delivered: Delivered, cause: str) -> None:
        dead = await delivered.source.give_up(delivered.entry.id, cause)
        GROUPS.labels(DEAD if dead else GIVEN_UP).inc()
        log.error("group set aside" if dead else "group not scored", job=delivered.job, cause=cause)


def _begun(delivered: Delivered) -> Span:
    complete = delivered.entry.payload
    return begun("advantage", complete.trace, job=delivered.job, group=complete.group_id)


async def _sleep_until(stop: asyncio.Event, longest_s: float) -> None:
    try:
        await asyncio.wait_for(stop.wait(), longest_s)
    except TimeoutError:
        return
