"""An engine without a model: what it samples is a function of prompt, seed and version, and it fails when told to."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence

from services.contracts.arrays import pack_float32, pack_int32, unpack_int32
from services.contracts.policy import PolicyManifest
from services.contracts.sampling import Prompt, SampledTokens, Sampling
from services.inference.engine import EngineFailed, Outcome, Refusal, UpdateRejected

VOCABULARY = 96
RIGHT_LOGPROB, WRONG_LOGPROB = -1.0, -1.5


class FakeEngine:
    """Port `Engine`. The public attributes are its levers and its diary."""

    name = "fake"

    def __init__(self) -> None:
        self.served: PolicyManifest | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        """Cleared: sampling stands still, as in a hung or slow engine."""
        self.up = False
        self.reject: set[int] = set()
        """Versions whose files count as damaged."""
        self.defects: set[int] = set()
        """Versions that have it raise what no engine should."""
        self.break_on: set[int] = set()
        """Versions whose update breaks the engine half-way."""
        self.break_update: set[int] = set()
        """Versions whose update breaks the engine half-way, while a start with them succeeds."""
        self.spoil_update: set[int] = set()
        """Versions whose update leaves other weights than theirs."""
        self.spoil_start: set[int] = set()
        """Versions that a start loads wrongly too."""
        self.logprob = RIGHT_LOGPROB
        """Log-probability of every token."""
        self.calls: list[list[Prompt]] = []
        self.surprise: Exception | None = None
        """Raised by every `generate`: what no engine should."""
        self.start_error: Exception | None = None
        """Raised by every `start`."""
        self.starts: list[int] = []
        self.updates: list[int] = []

    async def start(self, manifest: PolicyManifest) -> None:
        if self.up and self.served == manifest:
            return
        self._check(manifest)
        self.starts.append(manifest.version)
        if self.start_error is not None:
            raise self.start_error
        if manifest.version in self.break_on:
            self.die()
            raise EngineFailed(f"version {manifest.version} breaks the engine")
        self.served, self.up = manifest, True
        self.logprob = WRONG_LOGPROB if manifest.version in self.spoil_start else RIGHT_LOGPROB

    async def update(self, manifest: PolicyManifest) -> float:
        if self.served is None or self.served.base_sha != manifest.base_sha:
            raise UpdateRejected("another base")
        if not self.up:
            raise EngineFailed("it is down")
        self._check(manifest)
        self.updates.append(manifest.version)
        if manifest.version in self.break_on | self.break_update:
            self.die()
            raise EngineFailed(f"version {manifest.version} breaks the engine")
        self.served = manifest
        self.logprob = WRONG_LOGPROB if manifest.version in self.spoil_update else RIGHT_LOGPROB
        return 0.0

    async def generate(self, prompts: Sequence[Prompt], sampling: Sampling) -> AsyncIterator[list[tuple[int, Outcome]]]:
        if not self.up:
            raise EngineFailed("it is down")
        self.calls.append(list(prompts))
        if self.surprise is not None:
            raise self.surprise
        await self.gate.wait()
        if not self.up:
            raise EngineFailed("it died while sampling")
        assert self.served is not None
        for index, prompt in enumerate(prompts):
            yield [(index, self._probed(prompt) or _sample(prompt, sampling, self.served, self.logprob))]

    async def metrics(self) -> str:
        return "fake_prompts 1.0\n"

    async def healthy(self) -> bool:
        return self.up

    async def stop(self) -> None:
        self.up, self.served = False, None

    def die(self) -> None:
        """Stop as if it had been killed: what it owes is lost."""
        self.up = False
        self.gate.set()

    def _probed(self, prompt: Prompt) -> SampledTokens | None:
        """The trainer's own continuation of a probe's prompt: an engine with the right weights gives it."""
        probe, ids = self.served.probe if self.served else None, unpack_int32(prompt.prompt_ids)
        if probe is None or ids not in probe.prompts or self.logprob != RIGHT_LOGPROB:
            return None
        at = probe.prompts.index(ids)
        response, logprobs = probe.response_ids[at], probe.logprobs[at]
        versions = [self.served.version] * len(response)
        return SampledTokens(pack_int32(response), pack_float32(logprobs), pack_int32(versions), "length")

    def _check(self, manifest: PolicyManifest) -> None:
        if manifest.version in self.reject:
            raise UpdateRejected(f"version {manifest.version} is damaged")
        if manifest.version in self.defects:
            raise KeyError("a defect of the engine")


def _sample(prompt: Prompt, sampling: Sampling, served: PolicyManifest, logprob: float) -> Outcome:
    ids = unpack_int32(prompt.prompt_ids)
    if not ids or len(ids) >= served.max_model_len or not 0 <= min(ids) <= max(ids) < VOCABULARY:
        return Refusal("the prompt does not fit the model")
    chance = random.Random(f"{ids} {prompt.seed} {served.version}")
    limit = min(sampling.max_tokens, served.max_model_len - len(ids))
    response: list[int] = []
    while len(response) < limit and (not response or response[-1] not in sampling.stop_token_ids):
        response.append(chance.randrange(VOCABULARY))
    stopped = response[-1] in sampling.stop_token_ids
    return SampledTokens(
        pack_int32(response),
        pack_float32([logprob] * len(response)),
        pack_int32([served.version] * len(response)),
        "stop" if stopped else "length",
    )
