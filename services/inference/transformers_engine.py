"""The engine port on transformers in this process: for machines where vLLM cannot be installed; chosen explicitly.

It samples one batch at a time on one thread. A watch ends a batch that makes no progress, not one that is slow. torch
is imported when the engine first starts.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import psutil

from services.contracts.arrays import unpack_int32
from services.contracts.policy import PolicyManifest
from services.contracts.sampling import Prompt, Sampling
from services.inference.engine import EngineFailed, Outcome, Refusal, UpdateRejected
from services.inference.watch import Patience, Signs, Watch
from services.inference.weights import verify

if TYPE_CHECKING:
    from services.inference.transformers_model import LoadedModel

T = TypeVar("T")


class _Worker:
    """One thread, and what it shows of itself."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="transformers-engine")
        self._thread = 0
        self._jobs = self._turns = 0

    async def run(self, work: Callable[[], T]) -> T:
        """The result of `work`, done on the thread when it is free."""
        self._jobs += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, self._noted, work)
        finally:
            self._jobs -= 1
            self._turns += 1

    def signs(self, steps: int) -> Signs:
        """Signs of life; without work a thread has nothing to show and lives.

        Args:
            steps: how many tokens it has sampled.
        """
        self._turns += not self._jobs
        used = [one.user_time + one.system_time for one in psutil.Process().threads() if one.id == self._thread]
        return Signs(self._turns + steps, sum(used), str(steps))

    def leave(self) -> None:
        """Give it no more work. A hung thread cannot be ended; it stays behind, and the process's end waits for it."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _noted(self, work: Callable[[], T]) -> T:
        self._thread = threading.get_native_id()
        return work()


class TransformersEngine:
    """One model in this process.

    Args:
        data_dir: weights outside it are refused.
        torch_threads: CPU threads of one forward pass.
    """

    name = "transformers"

    def __init__(self, data_dir: Path, torch_threads: int = 1, patience: Patience | None = None) -> None:
        self._data_dir, self._torch_threads, self._patience = data_dir, torch_threads, patience or Patience()
        self._worker = _Worker()
        self._watch: Watch | None = None
        self._model: LoadedModel | None = None
        self._served: PolicyManifest | None = None

    async def start(self, manifest: PolicyManifest) -> None:
        if self._served == manifest:
            return
        if self._watch is None:
            self._watch = Watch(self._patience, self._signs)
            self._watch.start()
        await self._on_thread(lambda: verify(manifest, self._data_dir))
        self._model = await self._on_thread(lambda: self._load(manifest))
        self._served = manifest

    async def update(self, manifest: PolicyManifest) -> float:
        """The batch being sampled ends first, so a response has one version; standing still is the loading alone."""
        model = self._model
        if model is None or self._served is None or not self._served.same_start(manifest):
            raise UpdateRejected(f"version {manifest.version} belongs to another base model than the served version")
        await self._on_thread(lambda: verify(manifest, self._data_dir))

        started = time.monotonic()
        await self._on_thread(lambda: model.load_version(manifest))
        self._served = manifest
        return time.monotonic() - started

    async def generate(self, prompts: Sequence[Prompt], sampling: Sampling) -> AsyncIterator[list[tuple[int, Outcome]]]:
        model, served = self._model, self._served
        if model is None or served is None:
            raise EngineFailed("no model is loaded")
        refused = [(index, reason) for index, prompt in enumerate(prompts) if (reason := _why_not(prompt, model))]
        if refused:
            yield [(index, Refusal(reason)) for index, reason in refused]
        odd = {index for index, _ in refused}
        rest = [(index, prompt) for index, prompt in enumerate(prompts) if index not in odd]
        for batch in [[one] for one in rest] if served.deterministic else [rest] if rest else []:
            work = partial(model.sample, [prompt for _, prompt in batch], sampling)
            completions = await self._on_thread(work, "sampling", owes_tokens=True)
            yield [(index, completion) for (index, _), completion in zip(batch, completions, strict=True)]

    async def metrics(self) -> str:
        return ""

    async def healthy(self) -> bool:
        return self._model is not None and self._watch is not None and not self._watch.failure

    async def stop(self) -> None:
        watch, self._watch = self._watch, None
        self._model = self._served = None
        if watch is not None:
            await watch.stop("it was stopped")
            self._worker.leave()
            self._worker = _Worker()

    def _load(self, manifest: PolicyManifest) -> LoadedModel:
        from services.inference.transformers_model import LoadedModel  # torch and transformers: seconds

        return LoadedModel(manifest, torch_threads=self._torch_threads)

    async def _on_thread(self, work: Callable[[], T], what: str = "loading", *, owes_tokens: bool = False) -> T:
        if self._watch is None:
            raise EngineFailed("the engine is stopped")
        async with self._watch.guard(what, owes_tokens=owes_tokens):
            return await self._worker.run(work)

    def _signs(self) -> Signs:
        return self._worker.signs(self._model.steps if self._model is not None else 0)


def _why_not(prompt: Prompt, model: LoadedModel) -> str:
    ids = unpack_int32(prompt.prompt_ids)
    if not ids:
        return "the prompt is empty"
    if len(ids) >= model.max_model_len:
        return f"the prompt has {len(ids)} tokens, the model's length is {model.max_model_len} with the response"
    ids += [one for choice in prompt.choices for one in unpack_int32(choice)]
    if not 0 <= min(ids) <= max(ids) < model.vocabulary:
        return f"a token id lies outside the vocabulary of {model.vocabulary}"
    return ""
