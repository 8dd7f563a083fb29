"""Runs a replica with its connections, engine makers, loops and heartbeats, and shuts it down."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict
from functools import partial

from redis.asyncio import Redis

from services.contracts import keys
from services.contracts.policy import PolicyManifest
from services.inference.consumer import RequestConsumer
from services.inference.engine import Engine
from services.inference.metrics import families
from services.inference.registry import Registry
from services.inference.sampler import Sampler, SamplerLimits
from services.inference.service import Replica
from services.inference.settings import Settings
from services.inference.transformers_engine import TransformersEngine
from services.inference.vllm_engine import VllmEngine, VllmSettings
from services.inference.vllm_flags import VllmLimits, on_cuda
from services.inference.watch import Patience
from services.kit.lifecycle import heartbeat
from services.kit.redis import connect
from services.kit.side_port import Sources
from services.kit.tasks import ended, first_failure
from services.ledger.presence import present

SERVICE = "inference"


def engine_makers(settings: Settings) -> dict[str, Callable[[], Engine]]:
    """Makers of every engine by name; making one starts nothing."""
    vllm = VllmSettings(
        python=settings.vllm_python.absolute(),
        data_dir=settings.data_dir,
        log=settings.data_dir / "logs" / f"{settings.replica}-vllm.log",
        device=settings.vllm_device,
        start_s=settings.vllm_start_s,
        stop_s=settings.vllm_stop_s,
        stall_s=settings.stall_s,
        token_s=settings.token_s,
        limits=VllmLimits(
            nodes=settings.vllm_nodes,
            max_batch=settings.max_batch,
            kv_cache_mib=settings.vllm_kv_cache_mib,
            gpu_memory=settings.vllm_gpu_memory,
            torch_threads=settings.torch_threads,
        ),
    )
    patience = Patience(settings.stall_s, settings.token_s)
    return {
        "vllm": lambda: VllmEngine(vllm),
        "transformers": lambda: TransformersEngine(settings.data_dir, settings.torch_threads, patience),
    }


def held_gpus(settings: Settings, manifest: PolicyManifest) -> int:
    """GPUs that the engine of a version holds."""
    if manifest.engine == "vllm":
        return manifest.vllm.devices if on_cuda(settings.vllm_device) else 0
    if manifest.engine != "transformers":
        return 0
    import torch  # the engine has loaded it

    return int(torch.cuda.is_available())


@asynccontextmanager
async def running_replica(
    settings: Settings, engines: dict[str, Callable[[], Engine]] | None = None, sources: Sources | None = None
) -> AsyncIterator[asyncio.Task[None]]:
    """A registered replica; yields a task that ends only when one of its loops failed. On the way out it drains.

    Args:
        sources: of the side port; the replica adds itself.
    """
    async with connect(settings.redis_url) as redis:
        registry = Registry(redis, settings.replica, settings.data_dir)
        sampler = Sampler(SamplerLimits(settings.max_batch, settings.linger_s))
        makers = engines or engine_makers(settings)
        replica = Replica(
            settings.replica, registry, sampler, makers, settings.poll_s, gpus=partial(held_gpus, settings)
        )
        consumer = RequestConsumer(
            redis,
            settings.replica,
            sampler,
            replica.serves,
            max_outstanding=settings.max_outstanding,
            refused=replica.warn,
        )
        if sources is not None:
            _add_to(sources, redis, replica, consumer)
        async with (
            heartbeat(redis, keys.replica_heartbeat(settings.replica), lambda: settings.replica),
            present(redis, SERVICE, settings.replica, lambda: _detail(replica, consumer)),
        ):
            await registry.publish(replica.status())
            async with _loops(replica, consumer, settings.drain_s) as failure:
                yield failure
        await _sign_off(redis, registry, settings.replica)


@asynccontextmanager
async def _loops(replica: Replica, consumer: RequestConsumer, drain_s: float) -> AsyncIterator[asyncio.Task[None]]:
    inward = [asyncio.create_task(replica.run()), asyncio.create_task(consumer.read())]
    outward = [asyncio.create_task(replica.sampler.run()), asyncio.create_task(consumer.write())]
    failure = asyncio.create_task(first_failure([*inward, *outward]))
    try:
        yield failure
    finally:
        failure.cancel()
        try:
            await ended(inward)
            await replica.drain(drain_s)
            await ended(outward)
            await consumer.flush()
        finally:
            await replica.close()


async def _sign_off(redis: Redis, registry: Registry, name: str) -> None:
    """Strike oneself off; with requests left, stay on the list as a dead replica, for another one to adopt them."""
    if not await registry.waiting_requests(name):
        await registry.forget(name)


def _add_to(sources: Sources, redis: Redis, replica: Replica, consumer: RequestConsumer) -> None:
    sampler = replica.sampler
    sources.checks["redis"] = redis.ping
    sources.families = lambda: families(replica.status(), sampler.counters, sampler.outstanding, consumer.refused)
    sources.passed_through = replica.engine_metrics


def _detail(replica: Replica, consumer: RequestConsumer) -> dict[str, object]:
    counters = {**asdict(replica.sampler.counters), "unreadable_requests": consumer.refused}
    return {"status": replica.status().model_dump(), "counters": counters}
