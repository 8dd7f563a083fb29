"""Prompts per second of the inference service, through Redis and called directly, and the CPU seconds they cost.

    python -m benchmarks.inference [--engine vllm] [--model small] [--episodes 128] [--requests 4000] [--think-ms 0]
                                   [--json out.json]

A from-scratch policy, as in the default job (`small`) or of 113 million parameters (`large`), answers prompts of 40
tokens. `episodes` virtual episodes ask one prompt each, wait for the answer, think, and ask again: that gives the
rates. Latencies are of a paced load instead, half of what `direct` bears: in a closed loop each lost prompt per second
is a longer wait. `direct` calls the sampler and the engine in this process; `redis` runs the service as a process and
asks as rollout workers do. Both take turns, so that their ratio holds on a busy machine. Reference: the ratio is to be
>= 0.95, the added median <= 3 ms.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import itertools
import json
import os
import random
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
from redis.asyncio import Redis

from services.contracts import keys
from services.contracts.arrays import pack_int32
from services.contracts.job import ScratchModel
from services.contracts.messages import Generated, GenerateItem, GenerateReply, GenerateRequest, decode, encode
from services.contracts.policy import PolicyManifest
from services.inference.running import engine_makers
from services.inference.sampler import Sampler, SamplerLimits
from services.inference.settings import Settings
from services.kit.redis import connect
from services.kit.streams import StreamTail, append
from services.kit.tasks import ended
from services.stack.valkey import embedded_redis
from services.trainer.learner.scratch import build_scratch

PROMPT_TOKENS, SHARED_TOKENS = 40, 28
RESPONSE_TOKENS = {"small": 4, "large": 16}
SIZES: dict[str, dict[str, Any]] = {
    "small": {},
    "large": {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12},
}
PACE = 0.5
"""Share of the rate that `direct` reaches in a closed loop."""
COALESCE_S = 0.001
"""The rollout service's default: prompts of one moment go in one request."""
REPLICA, WORKER, JOB = "bench", "bench", "bench"

Ask = Callable[[GenerateItem], Awaitable[Generated]]


@dataclass
class Load:
    """Virtual episodes."""

    episodes: int
    requests: int
    think_s: float
    random: random.Random = field(default_factory=lambda: random.Random(0))
    numbers: itertools.count[int] = field(default_factory=itertools.count)

    def item(self) -> GenerateItem:
        """A prompt whose beginning it shares with others, as the prompts of a group do."""
        prefix = random.Random(self.random.randrange(16))
        ids = [prefix.randrange(3, 96) for _ in range(SHARED_TOKENS)]
        ids += [self.random.randrange(3, 96) for _ in range(PROMPT_TOKENS - SHARED_TOKENS)]
        number = next(self.numbers)
        return GenerateItem(item_id=f"{number}:0:0", prompt_ids=pack_int32(ids), seed=number)

    async def run(self, ask: Ask, cpu_s: Callable[[], float]) -> dict[str, float]:
        """Rate, latencies and CPU seconds per 1,000 prompts, after a fifth as many to warm up."""
        await self._rounds(ask, self.requests // 5)
        cpu, began = cpu_s(), time.perf_counter()
        latencies = await self._rounds(ask, self.requests)
        wall, cpu = time.perf_counter() - began, cpu_s() - cpu
        return {
            "prompts_per_s": len(latencies) / wall,
            "cpu_s_per_1000": 1000 * cpu / len(latencies),
            "p50_ms": 1000 * statistics.median(latencies),
            "p95_ms": 1000 * statistics.quantiles(latencies, n=20)[-1],
        }

    async def paced(self, ask: Ask, per_s: float) -> dict[str, float]:
        """Latencies of prompts that come by chance, so many a second, however many are under way."""
        latencies: list[float] = []

        async def one() -> None:
            began = time.perf_counter()
            generated = await ask(self.item())
            assert not generated.error, generated.error
            latencies.append(time.perf_counter() - began)

        async with asyncio.TaskGroup() as asking:
            for _ in range(self.requests // 2):
                asking.create_task(one())
                await asyncio.sleep(self.random.expovariate(per_s))
        return {
            "paced_p50_ms": 1000 * statistics.median(latencies),
            "paced_p95_ms": 1000 * statistics.quantiles(latencies, n=20)[-1],
        }

    async def _rounds(self, ask: Ask, requests: int) -> list[float]:
        latencies: list[float] = []
        left = iter(range(requests))

        async def episode() -> None:
            for _ in left:
                began = time.perf_counter()
                generated = await ask(self.item())
                assert not generated.error, generated.error
                latencies.append(time.perf_counter() - began)
                if self.think_s:
                    await asyncio.sleep(self.random.expovariate(1 / self.think_s))

        await asyncio.gather(*(episode() for _ in range(self.episodes)))
        return latencies


def request_of(items: list[GenerateItem], max_tokens: int) -> GenerateRequest:
    return GenerateRequest(
        job_id=JOB,
        reply_to=keys.replies_stream(WORKER),
        items=items,
        min_version=0,
        temperature=1.0,
        max_tokens=max_tokens,
        stop_token_ids=[],
        deadline_unix_s=time.time() + 120,
    )


@asynccontextmanager
async def direct(settings: Settings, manifest: PolicyManifest, max_tokens: int) -> AsyncIterator[Ask]:
    """The sampler and the engine in this process."""
    engine = engine_makers(settings)[manifest.engine]()
    await engine.start(manifest)
    sampler = Sampler(SamplerLimits(settings.max_batch, settings.linger_s))
    task = asyncio.create_task(sampler.run())
    sampler.serve(engine, manifest.version)

    async def ask(item: GenerateItem) -> Generated:
        answer: asyncio.Future[Generated] = asyncio.get_running_loop().create_future()
        request = request_of([item], max_tokens)
        sampler.ask(request, item, lambda generated: answer.set_result(generated) if generated else None)
        return await answer

    yield ask
    await ended([task])
    await engine.stop()


@asynccontextmanager
async def through_redis(settings: Settings, manifest: PolicyManifest, max_tokens: int) -> AsyncIterator[Ask]:
    """The service as a process, asked through its stream."""
    names = ("redis_url", "data_dir", "max_batch", "linger_s")
    chosen = {f"INFERENCE_{name.upper()}": str(getattr(settings, name)) for name in names}
    log = (settings.data_dir / "service.log").open("wb")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.inference.main"),
        env={**os.environ, **chosen, "INFERENCE_REPLICA": REPLICA},
        stdout=log,
        stderr=log,
    )
    async with connect(settings.redis_url) as redis:
        await redis.set(keys.policy(JOB), manifest.model_dump_json())
        await redis.sadd(keys.ACTIVE_JOBS, JOB)
        while not await redis.hexists(keys.policy_acks(JOB), REPLICA):
            await asyncio.sleep(0.05)
        asker = RedisAsker(redis, max_tokens)
        tasks = [asyncio.create_task(asker.send()), asyncio.create_task(asker.receive())]
        yield asker.ask
        await ended(tasks)
    process.terminate()
    await process.wait()
    log.close()


class RedisAsker:
    """The least that a rollout worker does."""

    def __init__(self, redis: Redis, max_tokens: int) -> None:
        self._redis, self._max_tokens = redis, max_tokens
        self._answers: dict[str, asyncio.Future[Generated]] = {}
        self._waiting: list[GenerateItem] = []
        self._wake = asyncio.Event()

    async def ask(self, item: GenerateItem) -> Generated:
        answer = self._answers[item.item_id] = asyncio.get_running_loop().create_future()
        self._waiting.append(item)
        self._wake.set()
        return await answer

    async def send(self) -> None:
        while True:
            await self._wake.wait()
            await asyncio.sleep(COALESCE_S)
            self._wake.clear()
            items, self._waiting = self._waiting, []
            payload = encode(request_of(items, self._max_tokens))
            await append(self._redis, keys.requests_stream(REPLICA), payload)

    async def receive(self) -> None:
        replies = StreamTail(self._redis, keys.replies_stream(WORKER), partial(decode, kind=GenerateReply))
        while True:
            for reply in await replies.read(256):
                for generated in reply.results:
                    self._answers.pop(generated.item_id).set_result(generated)


def cpu_of_everything() -> float:
    """CPU seconds of this process and all below it: server, service, and in both cases the asking side."""
    me = psutil.Process()
    return sum(sum(process.cpu_times()[:2]) for process in [me, *me.children(recursive=True)])


def manifest_in(folder: Path, engine: str, size: str) -> PolicyManifest:
    base = folder / "base"
    build_scratch(ScratchModel(initializer_range=0.2, **SIZES[size]), [f"w{number}" for number in range(93)], 0, base)
    digest = hashlib.sha256((base / "model.safetensors").read_bytes()).hexdigest()
    return PolicyManifest(
        job_id=JOB,
        version=0,
        base=str(base),
        base_sha="bench",
        path=str(base),
        files={"model.safetensors": digest},
        engine=engine,
        max_model_len=256,
    )


async def measure(options: argparse.Namespace, folder: Path, redis_url: str) -> dict[str, dict[str, float]]:
    settings = Settings(redis_url=redis_url, data_dir=folder, linger_s=options.linger_ms / 1000)
    manifest, max_tokens = manifest_in(folder, options.engine, options.model), RESPONSE_TOKENS[options.model]
    results: dict[str, list[dict[str, float]]] = {"direct": [], "redis": []}
    async with (
        direct(settings, manifest, max_tokens) as ask_directly,
        through_redis(settings, manifest, max_tokens) as ask_redis,
    ):
        for _ in range(options.rounds):
            for name, ask in (("direct", ask_directly), ("redis", ask_redis)):
                load = Load(options.episodes, options.requests, options.think_ms / 1000)
                load.numbers = itertools.count(len(results[name]) * 10**7)
                found = await load.run(ask, cpu_of_everything)
                results[name].append({"tokens_per_s": max_tokens * found["prompts_per_s"], **found})
                pace = PACE * results["direct"][-1]["prompts_per_s"]
                results[name][-1] |= await load.paced(ask, pace)
    return {
        name: {figure: statistics.median(one[figure] for one in rounds) for figure in rounds[0]}
        for name, rounds in results.items()
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--engine", choices=["vllm", "transformers"], default="vllm")
    options.add_argument("--model", choices=list(SIZES), default="small")
    options.add_argument("--episodes", type=int, default=128)
    options.add_argument("--requests", type=int, default=4000)
    options.add_argument("--think-ms", type=float, default=0.0)
    options.add_argument("--linger-ms", type=float, default=20.0)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--json", type=Path)
    chosen, before = options.parse_args(), os.getloadavg()
    with TemporaryDirectory() as folder, embedded_redis(Path(folder) / "valkey") as redis_url:
        figures = asyncio.run(measure(chosen, Path(folder), redis_url))
    for name, row in figures.items():
        print(f"{name:7}", "  ".join(f"{figure} {value:.2f}" for figure, value in row.items()))
    ratio = figures["redis"]["prompts_per_s"] / figures["direct"]["prompts_per_s"]
    added = figures["redis"]["paced_p50_ms"] - figures["direct"]["paced_p50_ms"]
    print(f"ratio {ratio:.3f}, added median {added:.1f} ms")
    if chosen.json:
        asked = {name: value for name, value in vars(chosen).items() if name != "json"}
        compared = {"ratio": ratio, "added_paced_p50_ms": added}
        loads = {"load": {"before": before, "after": os.getloadavg()}, "cores": os.cpu_count()}
        text = json.dumps({"benchmark": "inference", **asked, **figures, **compared, **loads}, indent=1)
        chosen.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
