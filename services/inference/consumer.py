"""The edge: reads generate requests from this replica's stream and writes answers to the workers' streams.

A request is acknowledged after the answers to all of its items are written. The two streams lie in different slots of a
Redis cluster, so this takes two commands: a crash between them repeats an answer with the same item id and content.
"""

from __future__ import annotations

import asyncio
import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog
from redis.asyncio import Redis

from services.contracts import keys
from services.contracts.messages import (
    ContractError,
    Generated,
    GenerateReply,
    GenerateRequest,
    MessageTooLarge,
    decode,
    encode,
)
from services.contracts.streams import PROMPTS_KEPT_S
from services.inference.sampler import Deliver, Sampler
from services.kit.streams import Entry, Refused, StreamConsumer, append

log = structlog.get_logger("inference")

GROUP = "inference"
"""Consumer group on every request stream."""
ENTRIES_PER_READ = 64
FULL_PAUSE_S = 0.01
REPLIES = keys.replies_stream("").partition("}")[2]
"""How every key of a stream of replies ends."""
OWN_IDLE_MS = 24 * 3_600_000
"""Idle time that is never reached: a replica must not reclaim its own entries, which it is sampling. A dead replica's
stream is adopted instead."""


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
        refused: told why a request was set aside.
        max_outstanding: prompts not yet answered, above which nothing is read.
    """

    def __init__(
        self,
        redis: Redis,
        replica: str,
        sampler: Sampler,
        serves: Callable[[str], bool],
        *,
        max_outstanding: int,
        refused: Refused | None = None,
    ) -> None:
        self._redis, self._replica, self._sampler, self._serves = redis, replica, sampler, serves
        self._max_outstanding = max_outstanding
        self._stream = StreamConsumer(
            redis,
            keys.requests_stream(replica),
            GROUP,
            replica,
            decode=request_in,
            refused=self._refuse,
            reclaim_idle_ms=OWN_IDLE_MS,
        )
        self._told = refused
        self.refused = 0
        """Requests that were set aside since the start."""
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
            while outbox.replies:
                stream, results = next(iter(outbox.replies.items()))
                payload, answers = self._reply(results)
                await append(self._redis, stream, payload, keep_s=PROMPTS_KEPT_S)
                del results[:answers]
                if not results:
                    del outbox.replies[stream]
            if outbox.done:
                await self._stream.ack(*outbox.done)
        except BaseException:
            self._put_back(outbox)
            raise

    async def _refuse(self, cause: str) -> None:
        self.refused += 1
        if self._told is not None:
            await self._told(cause)

    def take(self, entry: Entry[GenerateRequest]) -> None:
        """Ask for the items of one request."""
        request = entry.payload
        ticket = _Ticket(entry.id, len(request.items))
        if not request.items:
            self._acknowledge(entry.id)
        for item in request.items:
            deliver = self._deliverer(ticket, request.reply_to)
            if self._serves(request.job_id):
                self._sampler.ask(request, item, deliver)
            else:
                deliver(Generated.refusal(item.item_id, f"{self._replica} does not serve {request.job_id}"))

    def _deliverer(self, ticket: _Ticket, reply_to: str) -> Deliver:
        def deliver(generated: Generated | None) -> None:
            if generated is not None:
                self._outbox.replies[reply_to].append(generated)
            ticket.missing -= 1
            if ticket.missing == 0:
                self._outbox.done.append(ticket.entry_id)
            self._write.set()

        return deliver

    def _reply(self, results: list[Generated]) -> tuple[bytes, int]:
        """A message with as many of the answers as one may hold, and how many these are."""
        count = len(results)
        while True:
            try:
                return encode(GenerateReply(replica=self._replica, results=results[:count])), count
            except MessageTooLarge as error:
                if count == 1:
                    refusal = Generated.refusal(results[0].item_id, str(error), retryable=False)
                    return encode(GenerateReply(replica=self._replica, results=[refusal])), 1
                count //= 2

    def _acknowledge(self, entry_id: str) -> None:
        self._outbox.done.append(entry_id)
        self._write.set()

    def _put_back(self, outbox: Outbox) -> None:
        for stream, results in outbox.replies.items():
            self._outbox.replies[stream][:0] = results
        self._outbox.done[:0] = outbox.done
        self._write.set()


def request_in(payload: bytes) -> GenerateRequest:
    """The request in `payload`. Raises ContractError: it is none, or asks for what no engine can do.

    An engine that stumbles over one prompt loses all that it samples, so what can be seen here never gets there.
    """
    request = decode(payload, GenerateRequest)
    if not (math.isfinite(request.temperature) and request.temperature >= 0):
        raise ContractError(f"temperature: want a number >= 0, got {request.temperature}")
    if request.max_tokens < 1:
        raise ContractError(f"max_tokens: want at least 1, got {request.max_tokens}")
    if any(not 0 <= token < 2**31 for token in request.stop_token_ids):
        raise ContractError("stop_token_ids: want token ids in [0, 2**31)")
    if request.top_k < 0 or not 0 < request.top_p <= 1 or not 0 <= request.min_p < 1:
        raise ContractError("top_k, top_p, min_p: want them >= 0, in (0, 1] and in [0, 1)")
    if not all(request.stop_words):
        raise ContractError("stop_words: want texts of at least one character")
    if not request.reply_to.endswith(REPLIES):
        raise ContractError(f"reply_to: want the key of a stream of replies, got {request.reply_to[:80]!r}")
    for item in request.items:
        if len(item.prompt_ids) % 4:
            raise ContractError(f"prompt_ids: want int32 numbers, got {len(item.prompt_ids)} bytes")
        if any(not choice or len(choice) % 4 for choice in item.choices):
            raise ContractError("choices: want int32 numbers, at least one in each")
        if not 0 <= item.seed < 2**31:
            raise ContractError(f"seed: want one in [0, 2**31), got {item.seed}")
    return request
