"""The engine port on vLLM: supervises one server and uses its HTTP API.

Sampling uses our plugin's batched route, weight updates use vLLM's own phases (pause keeping requests, start, update,
finish with the version, resume). Only the transfer backend's name and arguments differ between files on a CPU and NCCL
or IPC on GPUs.
Answers have no time limit: `watch.Watch` tells a dead server from a slow one.
"""

from __future__ import annotations

import asyncio
import math
import os
import secrets
import time
from array import array
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import msgspec

from services.contracts.arrays import pack_int32
from services.contracts.policy import PolicyManifest
from services.contracts.sampling import Prompt, SampledTokens, Sampling
from services.inference.engine import EngineFailed, Outcome, Refusal, UpdateRejected
from services.inference.vllm_flags import VllmLimits, environment, on_cuda, server_flags
from services.inference.vllm_process import VllmProcess
from services.inference.vllm_pulse import VllmPulse
from services.inference.watch import Patience, Watch
from services.inference.weights import Shapes, verify, whole_model
from services.kit.metrics import only
from services.kit.tasks import ended

BATCH_PATH = "/inference/v1/generate_batch"
FRAME_HEADER_BYTES = 4
METRICS_PATH, METRICS_TIMEOUT_S = "/metrics", 2.0
HEALTH_EVERY_S = 0.2
HEALTH_TIMEOUT_S = 5.0

_encoder = msgspec.msgpack.Encoder()
_Row = tuple[int, bytes, bytes, list[tuple[str, int, int]], str, str, bytes]
_rows = msgspec.msgpack.Decoder(list[_Row])


@dataclass(frozen=True)
class VllmSettings:
    """How the server is run; see settings.py for each."""

    python: Path
    data_dir: Path
    log: Path
    device: str = "auto"
    start_s: float = 600.0
    stop_s: float = 12.0
    stall_s: float = 10.0
    token_s: float = 600.0
    limits: VllmLimits = field(default_factory=VllmLimits)


class VllmEngine:
    """One vLLM server, private to this process."""

    name = "vllm"

    def __init__(self, settings: VllmSettings) -> None:
        self._settings = settings
        self._process: VllmProcess | None = None
        self._client: httpx.AsyncClient | None = None
        self._watch: Watch | None = None
        self._pulse: asyncio.Task[None] | None = None
        self._key = secrets.token_urlsafe(32)
        self._model: PolicyManifest | None = None
        """The manifest whose base the server runs; None: there is none, or one that must not be asked any more."""
        self._served: PolicyManifest | None = None
        """The manifest whose weights it has; None: unknown."""
        self._tensors: Shapes | None = None
        """Tensors of the version that the server started with: it loaded each of them, and misses none."""

    @property
    def pid(self) -> int | None:
        """Process (and group) id of the server while it runs."""
        return None if self._process is None else self._process.pid

    async def start(self, manifest: PolicyManifest) -> None:
        """See the port. A server that runs another base, or that is not healthy, is replaced."""
        found = await self._verify(manifest)
        loadable = self._model is not None and self._model.same_start(manifest) and found == self._tensors
        if not loadable or not await self.healthy():
            await self.stop()
            await self._launch(manifest)
            await self._verify(manifest, found)  # a version may be superseded and deleted while a server starts
            self._tensors = found
            await self._post("/update_weight_version", {"new_version": str(manifest.version)})
            self._served = manifest
        if self._served != manifest:
            await self._swap(manifest)

    async def update(self, manifest: PolicyManifest) -> float:
        if self._model is None or not self._model.same_start(manifest):
            raise UpdateRejected(f"version {manifest.version} belongs to another base model than the served version")
        await self._verify(manifest, self._tensors)
        return await self._swap(manifest)

    async def generate(self, prompts: Sequence[Prompt], sampling: Sampling) -> AsyncIterator[list[tuple[int, Outcome]]]:
        adapter = self._adapter()
        body = _encoder.encode(
            {
                "temperature": sampling.temperature,
                "max_tokens": sampling.max_tokens,
                "stop_token_ids": sampling.stop_token_ids,
                "top_k": sampling.top_k,
                "top_p": sampling.top_p,
                "min_p": sampling.min_p,
                "stop_words": sampling.stop_words,
                "items": [(prompt.prompt_ids, prompt.seed, prompt.choices) for prompt in prompts],
                "adapter": adapter,
            }
        )
        missing = len(prompts)
        try:
            async with aclosing(self._answers(body)) as answers:
                async for rows in answers:
                    missing -= len(rows)
                    yield [(row[0], _outcome(row, adapter and adapter[0])) for row in rows]
        except EngineFailed:
            self._model = None  # the next start makes a new server
            raise
        except httpx.HTTPError as error:
            self._model = None
            raise EngineFailed(f"vLLM closed the connection while sampling: {type(error).__name__}: {error}") from error
        if missing:
            self._model = None
            raise EngineFailed(f"vLLM ended its answer with {missing} of {len(prompts)} prompts missing")

    async def healthy(self) -> bool:
        watched = self._watch is not None and not self._watch.failure
        return watched and self._process is not None and self._process.alive

    async def metrics(self) -> str:
        if self._client is None:
            return ""
        try:
            answer = await self._client.get(METRICS_PATH, timeout=METRICS_TIMEOUT_S)
        except httpx.HTTPError:  # the server starts, or is busy; the watch finds out whether it lives
            return ""
        return only(answer.text, "vllm:") if answer.status_code == httpx.codes.OK else ""

    async def stop(self) -> None:
        client, self._client = self._client, None
        watch, self._watch = self._watch, None
        pulse, self._pulse = self._pulse, None
        process, self._process = self._process, None
        self._model = self._served = self._tensors = None
        if watch is not None:
            await watch.stop("it was stopped")
        if pulse is not None:
            await ended([pulse])
        if client is not None:
            await client.aclose()
        if process is not None:
            await process.stop(self._settings.stop_s)

    async def _launch(self, manifest: PolicyManifest) -> None:
        settings = self._settings
        if not settings.python.exists():
            raise EngineFailed(
                f"no vLLM environment at {settings.python}: run `make install-vllm`, or choose the transformers engine"
            )
        cuda = on_cuda(settings.device)
        process = self._process = VllmProcess(settings.log)
        model = whole_model(manifest, process.socket.parent / "model")
        whole = manifest.model_copy(update={"base": str(model)})
        launcher = [str(settings.python), "-m", "gigpo_vllm.serve", str(os.getpid()), "--uds", str(process.socket)]
        await process.spawn(
            [*launcher, *server_flags(whole, settings.limits, cuda=cuda)],
            environment(self._key, manifest, settings.limits, cuda=cuda),
        )
        client = self._client = httpx.AsyncClient(
            base_url="http://vllm",
            headers={"Authorization": f"Bearer {self._key}"},
            timeout=None,  # the watch tells a dead server from a slow one
            transport=httpx.AsyncHTTPTransport(uds=str(process.socket), limits=httpx.Limits(max_connections=None)),
        )
        try:
            await self._await_health(client, process)
            self._observe(client, process)
            await self._post("/init_weight_transfer_engine", {"init_info": {"root": str(settings.data_dir.resolve())}})
        except EngineFailed:
            await self.stop()
            raise
        self._model = manifest

    def _observe(self, client: httpx.AsyncClient, process: VllmProcess) -> None:
        patience = Patience(self._settings.stall_s, self._settings.token_s)
        pulse = VllmPulse(client, process, lambda why: watch.fail(why))
        watch = self._watch = Watch(patience, pulse.signs)
        self._pulse = asyncio.create_task(pulse.ask(watch.every_s))
        watch.start()

    async def _await_health(self, client: httpx.AsyncClient, process: VllmProcess) -> None:
        """A start may take as long as the model is large; one that shows nothing for `start_s` hangs."""
        watch = Watch(Patience(self._settings.start_s, math.inf), process.signs)
        watch.start()
        try:
            async with watch.guard("starting"):
                while process.alive and not await _is_up(client):
                    await asyncio.sleep(HEALTH_EVERY_S)
        except EngineFailed as error:
            raise EngineFailed(f"{error}: {process.why()}") from error
        finally:
            await watch.stop("it is up")
        if not process.alive:
            raise EngineFailed(f"vLLM ended with status {await process.exited()}: {process.why()}")

    def _adapter(self) -> tuple[int, str] | None:
        """(version, folder) of the adapter that new prompts are sampled with."""
        served = self._served
        return (served.version, served.path) if served is not None and served.adapter_rank else None

    async def _swap(self, manifest: PolicyManifest) -> float:
        """The four phases. Half-way failures leave weights that nobody can name, so they end in EngineFailed.

        An adapter needs none: prompts in flight end with the one that they began with, and vLLM loads the next one
        for the first prompt that asks for it.
        """
        started = time.monotonic()
        if manifest.adapter_rank:
            self._served = manifest
            return 0.0
        self._model = self._served = None
        await self._post("/pause?mode=keep&clear_cache=true")
        await self._post("/start_weight_update")
        await self._post("/update_weights", {"update_info": {"path": manifest.path}})
        await self._post("/finish_weight_update", {"weight_version": str(manifest.version)})
        await self._post("/resume")
        self._model = self._served = manifest
        return time.monotonic() - started

    async def _verify(self, manifest: PolicyManifest, served: Shapes | None = None) -> Shapes:
        return await asyncio.to_thread(verify, manifest, self._settings.data_dir, served)

    async def _post(self, path: str, body: Mapping[str, object] | None = None) -> None:
        client, watch = self._connection()
        try:
            async with watch.guard(f"answering {path}"):
                response = await client.post(path, json=body)
        except httpx.HTTPError as error:
            raise EngineFailed(f"vLLM did not answer {path}: {type(error).__name__}: {error}") from error
        await _raise_for_status(response, path)

    async def _answers(self, body: bytes) -> AsyncGenerator[list[_Row]]:
        """The frames' rows, each waited for as long as the engine lives."""
        client, watch = self._connection()
        request = client.build_request("POST", BATCH_PATH, content=body)
        async with watch.guard("sampling", owes_tokens=True):
            response = await client.send(request, stream=True)
        try:
            await _raise_for_status(response, "generate")
            frames = _frames(response)
            while True:
                async with watch.guard("sampling", owes_tokens=True):
                    rows = await anext(frames, None)
                if rows is None:
                    return
                yield rows
        finally:
            await response.aclose()

    def _connection(self) -> tuple[httpx.AsyncClient, Watch]:
        if self._client is None or self._watch is None:
            raise EngineFailed("vLLM is not running")
        return self._client, self._watch


async def _is_up(client: httpx.AsyncClient) -> bool:
    try:
        answer = await client.get("/health", timeout=HEALTH_TIMEOUT_S)
    except httpx.HTTPError:
        return False
    return answer.status_code == httpx.codes.OK


async def _raise_for_status(response: httpx.Response, what: str) -> None:
    if response.status_code != httpx.codes.OK:
        text = (await response.aread())[:500].decode(errors="replace")
        raise EngineFailed(f"vLLM answered {what} with {response.status_code}: {text}")


async def _frames(response: httpx.Response) -> AsyncIterator[list[_Row]]:
    """The rows of each frame; a frame is 4 bytes of length, little-endian, and its msgpack."""
    buffer = bytearray()
    async for chunk in response.aiter_raw():
        buffer += chunk
        while len(buffer) >= FRAME_HEADER_BYTES:
            end = FRAME_HEADER_BYTES + int.from_bytes(buffer[:FRAME_HEADER_BYTES], "little")
            if len(buffer) < end:
                break
            yield _rows.decode(buffer[FRAME_HEADER_BYTES:end])
            del buffer[:end]


def _outcome(row: _Row, adapter: int | None) -> Outcome:
    """The row as an outcome; `adapter` is the version whose adapter sampled all of it, None: the spans tell."""
    _, response_ids, logprobs, spans, finish_reason, error, kept = row
    if finish_reason == "refused":
        return Refusal(error)
    if finish_reason not in ("stop", "length"):
        raise EngineFailed(f"vLLM ended a prompt with {finish_reason!r}: {error}")
    versions = array("i", bytes(len(response_ids)))
    if adapter is not None:
        spans = [(str(adapter), 0, len(versions))]
    covered = 0
    for version, start, end in spans:
        versions[start:end] = array("i", [int(version)] * (end - start))
        covered += end - start
    if covered != len(versions):
        raise EngineFailed(f"vLLM gave the policy version of {covered} of {len(versions)} tokens")
    return SampledTokens(response_ids, logprobs, pack_int32(versions), finish_reason, kept)
