"""The port to the engines: token ids in, token ids, log-probabilities and versions out.

vLLM (`vllm_engine`), transformers in this process (`transformers_engine`) and the fake of the tests implement it. The
tests in `tests/e2e/inference` run on all of them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from services.contracts.policy import PolicyManifest
from services.contracts.sampling import Prompt, SampledTokens, Sampling


class EngineError(Exception):
    """Base of what an engine raises."""


class EngineFailed(EngineError):
    """The engine is gone, hung or in an unknown state: it must be started again before it samples."""


class UpdateRejected(EngineError):
    """The version's files are not what its manifest says; the engine still serves what it served before.

    Attributes:
        final: looking again can't help; False where the storage may yet show the files.
    """

    def __init__(self, message: str, *, final: bool = True) -> None:
        super().__init__(message)
        self.final = final


class WrongWeights(UpdateRejected):
    """The engine loaded the version and serves other weights, after a start too: nothing may be sampled with it."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why this engine can't continue this prompt, now or ever."""

    reason: str


Outcome = SampledTokens | Refusal


class Engine(Protocol):
    """One model being served. Only `generate` may be called concurrently."""

    name: str
    """`vllm`, `transformers` or a fake's name: what the acknowledgement says."""

    async def start(self, manifest: PolicyManifest) -> None:
        """Serve exactly `manifest`, from whatever state the engine is in; a no-op where it already does.

        Raises:
            UpdateRejected: the manifest's files are damaged or of another model; nothing changed.
            EngineFailed: the engine did not come up in time.
        """

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling) -> AsyncIterator[list[tuple[int, Outcome]]]:
        """Continue the prompts; yields (index into `prompts`, outcome) as they finish, each index once.

        Raises:
            EngineFailed: the outcomes not yet yielded are lost.
        """

    async def update(self, manifest: PolicyManifest) -> float:
        """Serve another version of the same base; prompts in flight go on under the new weights, or, where versions
        are adapters, may end under those that they began with.

        Returns:
            Seconds during which no token was sampled.

        Raises:
            UpdateRejected: as in `start`; the old version is served.
            EngineFailed: the update broke half-way.
        """

    async def healthy(self) -> bool:
        """Whether the engine can sample, as far as a cheap question tells."""

    async def metrics(self) -> str:
        """The engine's own metrics in Prometheus' text format; empty where it has none, or does not answer now."""

    async def stop(self) -> None:
        """End it and everything it started. Idempotent; `start` may follow."""
