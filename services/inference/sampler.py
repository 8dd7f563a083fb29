"""Batches single prompts for the engine: keeps the waiting ones, those being sampled, and the answers.

A prompt waits here until its policy version is served. It is sampled once, even when it is requested repeatedly; it
survives the engine's death; it is dropped when nobody waits for it any more. Nothing here knows Redis or vLLM.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from services.contracts.messages import Generated, GenerateItem, GenerateRequest
from services.contracts.sampling import Prompt, Sampling, most_tokens
from services.inference.engine import Engine, EngineFailed, Outcome, Refusal
from services.kit.tracing import Span, begun

log = structlog.get_logger("inference")

SWEEP_S = 0.25
"""How often prompts past their deadline are looked for, seconds."""
REMEMBERED = 20_000
"""Answers kept for repeated questions: about half a minute at full load, a few MB."""
MOST_TRIES = 3
"""Engines that may die on one prompt; then the prompt is likely the cause."""

Deliver = Callable[[Generated | None], None]
"""Takes an item's answer; None: its deadline passed, nobody waits for it."""


@dataclass
class Counters:
    """Counts since the start; each only grows."""

    asked: int = 0
    sampled: int = 0
    tokens: int = 0
    repeated: int = 0
    expired: int = 0
    refused: int = 0
    failed: int = 0
    engine_failures: int = 0


@dataclass(eq=False)
class _Waiting:
    """One prompt that has no answer yet."""

    key: tuple[str, str]
    prompt: Prompt
    sampling: Sampling
    min_version: int
    deadline: float
    deliver: list[Deliver]
    span: Span
    tries: int = 0


@dataclass(frozen=True)
class SamplerLimits:
    """See settings.py."""

    max_batch: int = 128
    linger_s: float = 0.02


@dataclass(eq=False)
class Sampler:
    """Prompts of one job at a time, sampled by one engine at a time.

    Args:
        clock: Unix seconds, for deadlines.
    """

    limits: SamplerLimits
    clock: Callable[[], float] = time.time
    counters: Counters = field(default_factory=Counters)

    def __post_init__(self) -> None:
        self._engine: Engine | None = None
        self._version = -1
        self._queue: list[_Waiting] = []
        self._open: dict[tuple[str, str], _Waiting] = {}
        self._answers: OrderedDict[tuple[str, str], Generated] = OrderedDict()
        self._calls: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self.engine_failed = asyncio.Event()
        """Set when the engine broke: whoever supervises it starts it again and calls `serve`."""

    @property
    def outstanding(self) -> int:
        """Prompts that wait or are being sampled."""
        return len(self._open)

    @property
    def outstanding_tokens(self) -> int:
        """Their tokens, and the most that may be sampled after them."""
        return sum(most_tokens(one.prompt, one.sampling) for one in self._open.values())

    def serve(self, engine: Engine, version: int) -> None:
        """Sample with `engine`, which serves `version`, from now on."""
        self._engine, self._version = engine, version
        self.engine_failed.clear()
        self._wake.set()

    def hold(self) -> None:
        """Sample nothing new until `serve`; what is being sampled goes on."""
        self._engine = None

    def ask(self, request: GenerateRequest, item: GenerateItem, deliver: Deliver) -> None:
        """Have `item` of `request` answered through `deliver`, at once when its answer is known."""
        self.counters.asked += 1
        key = (request.job_id, item.item_id)
        if (known := self._answers.get(key)) is not None:
            self.counters.repeated += 1
            deliver(known)
            return
        if (waiting := self._open.get(key)) is not None:
            self.counters.repeated += 1
            waiting.deliver.append(deliver)
            waiting.deadline = max(waiting.deadline, request.deadline_unix_s)
            return
        span = begun("sample", item.trace, job=request.job_id)
        waiting = _Waiting(key, item, request.sampling, request.min_version, request.deadline_unix_s, [deliver], span)
        self._open[key] = waiting
        self._queue.append(waiting)
        self._idle.clear()
        self._wake.set()

    def refuse_all(self, reason: str) -> None:
        """Answer every prompt that waits with an error that another replica may not have."""
        queue, self._queue = self._queue, []
        for waiting in queue:
            self._finish(waiting, _error(waiting, reason, retryable=True))

    async def idle(self) -> None:
        """Return once nothing is outstanding."""
        await self._idle.wait()

    async def run(self) -> None:
        """Send batches until cancelled; then what is being sampled is cancelled too."""
        try:
            while True:
                try:
                    async with asyncio.timeout(SWEEP_S):  # Python 3.11's wait_for may swallow a cancellation
                        await self._wake.wait()
                except TimeoutError:
                    self._drop_expired()
                    continue
                self._wake.clear()
                if self._calls and len(self._queue) < self.limits.max_batch and self.limits.linger_s:
                    await asyncio.sleep(self.limits.linger_s)
                self._drop_expired()
                self._send_ready()
        finally:
            for call in self._calls:
                call.cancel()
            await asyncio.gather(*self._calls, return_exceptions=True)

    def _send_ready(self) -> None:
        engine = self._engine
        if engine is None:
            return
        ready = [waiting for waiting in self._queue if waiting.min_version <= self._version]
        if len(ready) < len(self._queue):
            self._queue = [waiting for waiting in self._queue if waiting.min_version > self._version]
        else:
            self._queue = []
        alike: dict[Sampling, list[_Waiting]] = {}
        for waiting in ready:
            alike.setdefault(waiting.sampling, []).append(waiting)
        for sampling, group in alike.items():
            for start in range(0, len(group), self.limits.max_batch):
                batch = group[start : start + self.limits.max_batch]
                call = asyncio.create_task(self._sample(engine, batch, sampling))
                self._calls.add(call)
                call.add_done_callback(self._calls.discard)

    async def _sample(self, engine: Engine, batch: list[_Waiting], sampling: Sampling) -> None:
        missing = set(range(len(batch)))
        try:
            async for outcomes in engine.generate([waiting.prompt for waiting in batch], sampling):
                for index, outcome in outcomes:
                    missing.discard(index)
                    self._finish(batch[index], self._answer(batch[index], outcome))
        except EngineFailed as error:
            self._ask_again(engine, [batch[index] for index in sorted(missing)], str(error))
        except Exception as error:  # the outermost frame of this task: without an answer its prompts would stay open
            log.exception("the engine's answer could not be taken")
            self._ask_again(engine, [batch[index] for index in sorted(missing)], repr(error))

    def _ask_again(self, engine: Engine, lost: list[_Waiting], reason: str) -> None:
        """The engine broke: what it owed goes to the head of the queue, for its successor."""
        if self._engine is engine:
            log.error("the engine failed", error=reason, prompts=len(lost))
            self.counters.engine_failures += 1
            self._engine = None
            self.engine_failed.set()
        again: list[_Waiting] = []
        for waiting in lost:
            waiting.tries += 1
            if waiting.tries < MOST_TRIES:
                again.append(waiting)
            else:
                text = f"the engine failed {waiting.tries} times while sampling this prompt, last: {reason}"
                self._finish(waiting, _error(waiting, text, retryable=False))
        self._queue[:0] = again

    def _answer(self, waiting: _Waiting, outcome: Outcome) -> Generated:
        if isinstance(outcome, Refusal):
            self.counters.refused += 1
            return _error(waiting, outcome.reason, retryable=False)
        self.counters.sampled += 1
        self.counters.tokens += len(outcome.response_ids) // 4
        return Generated(item_id=waiting.key[1], **outcome.shared())

    def _finish(self, waiting: _Waiting, generated: Generated | None) -> None:
        self._open.pop(waiting.key, None)
        waiting.span.end(policy_version=self._version)
        if generated is not None and not generated.error:
            self._answers[waiting.key] = generated
            if len(self._answers) > REMEMBERED:
                self._answers.popitem(last=False)
        elif generated is not None:
            self.counters.failed += 1
        for deliver in waiting.deliver:
            deliver(generated)
        if not self._open:
            self._idle.set()

    def _drop_expired(self) -> None:
        now = self.clock()
        expired = [waiting for waiting in self._queue if waiting.deadline <= now]
        if not expired:
            return
        self._queue = [waiting for waiting in self._queue if waiting.deadline > now]
        self.counters.expired += len(expired)
        for waiting in expired:
            self._finish(waiting, None)


def _error(waiting: _Waiting, reason: str, *, retryable: bool) -> Generated:
    return Generated.refusal(waiting.key[1], reason, retryable=retryable)
