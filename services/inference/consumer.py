"""The edge: generate requests from this replica's stream, answers to the workers' streams.

A request is acknowledged only when the answers to all of its items are written. The two streams lie in different slots
of a Redis cluster, so this is two commands and not one script: a crash between them repeats an answer, which carries
its item's id and is the same.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog
from redis.asyncio import Redis

from services.contracts import keys
from services.contracts.messages import ContractError, Generated, GenerateReply, GenerateRequest, decode, encode
from services.inference.sampler import Deliver, Sampler
from services.kit.streams import FIELD, Entry, StreamConsumer

log = structlog.get_logger("inference")

GROUP = "inference"
"""Consumer group on every request stream."""
ENTRIES_PER_READ = 64
FULL_PAUSE_S = 0.01
OWN_IDLE_MS = 24 * 3_600_000
"""Never reclaim from oneself: what is pending here is being sampled. A dead replica's stream is adopted instead."""


@dataclass(eq=False)
class _Ticket:
    """One entry of the stream and how many of its items are not answered yet."""

    entry_id: str
    missing: int


@dataclass
class Outbox:
    """Answers and acknowledgements that are not written yet."""

    replies: dict[str, list[Generated]] = field(default_factory=lambda: defaultdict(list))
    done: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.replies or self.done)


class RequestConsumer:
    """Reads, asks the sampler, writes.

    Args:
        serves: whether this replica serves a job now.
        max_outstanding: prompts not yet answered, above which nothing is read.
    """

    def __init__(
        self, redis: Redis, replica: str, sampler: Sampler, serves: Callable[[str], bool], *, max_outstanding: int
    ) -> None:
        self._redis, self._replica, self._sampler, self._serves = redis, replica, sampler, serves
        self._max_outstanding = max_outstanding
        self._stream = StreamConsumer(redis, keys.requests_stream(replica), GROUP, replica, reclaim_idle_ms=OWN_IDLE_MS)
        self._outbox = Outbox()
        self._written = asyncio.Event()
        self._write = asyncio.Event()

    async def read(self) -> None:
        """Take requests until cancelled; first those this name took in an earlier life and never acknowledged."""
        for entry in await self._stream.read_own(self._max_outstanding):
            self.take(entry)
        while True:
            if self._sampler.outstanding >= self._max_outstanding:
                await asyncio.sleep(FULL_PAUSE_S)
                continue
            for entry in await self._stream.read(ENTRIES_PER_READ):
                self.take(entry)

    async def write(self) -> None:
        """Write answers as they come until cancelled."""
        while True:
            await self._write.wait()
            self._write.clear()
            await self.flush()

    async def flush(self) -> None:
        """Write every answer known now, then acknowledge the requests that are answered whole."""
        outbox, self._outbox = self._outbox, Outbox()
        try:
            if outbox.replies:
                async with self._redis.pipeline(transaction=False) as pipe:
                    for stream, results in outbox.replies.items():
                        pipe.xadd(stream, {FIELD: encode(GenerateReply(replica=self._replica, results=results))})
                    await pipe.execute()
                outbox.replies.clear()
            if outbox.done:
                await self._stream.ack(*outbox.done)
        except BaseException:
            self._put_back(outbox)
            raise

    def take(self, entry: Entry) -> None:
        """Ask for the items of one request."""
        try:
            request = decode(entry.payload, GenerateRequest)
        except ContractError as error:
            log.error("a request can't be read", entry=entry.id, error=str(error))
            self._acknowledge(entry.id)
            return
        ticket = _Ticket(entry.id, len(request.items))
        if not request.items:
            self._acknowledge(entry.id)
        for item in request.items:
            deliver = self._deliverer(ticket, request.reply_to)
            if self._serves(request.job_id):
                self._sampler.ask(request, item, deliver)
            else:
                deliver(Generated(item_id=item.item_id, error=f"{self._replica} does not serve {request.job_id}"))

    def _deliverer(self, ticket: _Ticket, reply_to: str) -> Deliver:
        def deliver(generated: Generated | None) -> None:
            if generated is not None:
                self._outbox.replies[reply_to].append(generated)
            ticket.missing -= 1
            if ticket.missing == 0:
                self._outbox.done.append(ticket.entry_id)
            self._write.set()

        return deliver

    def _acknowledge(self, entry_id: str) -> None:
        self._outbox.done.append(entry_id)
        self._write.set()

    def _put_back(self, outbox: Outbox) -> None:
        for stream, results in outbox.replies.items():
            self._outbox.replies[stream][:0] = results
        self._outbox.done[:0] = outbox.done
        self._write.set()
