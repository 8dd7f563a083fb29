"""A soak test: opens, steps and closes as many sessions as in a day, and measures leaks of memory and processes."""

import asyncio
import statistics
import time

import grpc
import psutil

from services.env.tools.bench_load import Service, served
from services.env.tools.local import OPTIONS, EnvClient, Task

TASKS = (
    Task("alfworld", {}),
    Task("grid", {}),
    Task("gymnasium", {"id": "FrozenLake-v1"}),
)
AT_A_TIME = 32
SAMPLES = 100
LEASES = 256
SETTLE_S = 30.0


async def soak(cycles: int, *, workers: int = 2, episodes_per_worker: int = 5_000) -> dict[str, float]:
    """Open, step and close so many sessions, each by calls of its own, over environments in turn.

    Returns memory (resident, service and workers, MiB) as medians of the second and the last tenth of the run and their
    ratio, processes before and after, and the leases for which there was room at the end.

    Raises:
        grpc.aio.AioRpcError: a call failed.
    """
    began = time.perf_counter()
    with served(workers=workers, max_leases=LEASES, episodes_per_worker=episodes_per_worker) as service:
        before = len(_family(service))
        async with grpc.aio.insecure_channel(service.address, options=OPTIONS) as channel:
            client = EnvClient(channel)
            memory = await _cycle(client, service, cycles)
            leases = (await client.open(TASKS[1], LEASES)).leases
            await client.close(leases)
        after = await _settled(service, before)
        family = _family(service)
    _, left = psutil.wait_procs([service.process, *family], timeout=30)
    tenth = max(1, len(memory) // 10)
    early, late = statistics.median(memory[tenth : 2 * tenth]), statistics.median(memory[-tenth:])
    return {
        "cycles": cycles,
        "seconds": time.perf_counter() - began,
        "memory_early_mb": early,
        "memory_late_mb": late,
        "memory_ratio": late / early,
        "processes_before": before,
        "processes_after": after,
        "processes_left": len(left),
        "room_for_leases": len(leases),
        "leases": LEASES,
    }


async def _cycle(client: EnvClient, service: Service, cycles: int) -> list[float]:
    """Memory, sampled all along."""
    numbers = iter(range(cycles))
    memory: list[float] = []
    every = max(1, cycles // SAMPLES)

    async def go() -> None:
        for number in numbers:
            task = TASKS[number % len(TASKS)]
            group = await client.open(Task(task.environment, task.kwargs, "", number), 1)
            await client.step(group.leases[0], 1, group.observation.admissible_actions[0])
            await client.close(group.leases)
            if number % every == 0:
                memory.append(service.memory_mb())

    await asyncio.gather(*(go() for _ in range(AT_A_TIME)))
    return memory


async def _settled(service: Service, wanted: int) -> int:
    """How many processes there are, once those that were replaced had time to go."""
    until = time.monotonic() + SETTLE_S
    while len(_family(service)) != wanted and time.monotonic() < until:
        await asyncio.sleep(0.1)
    return len(_family(service))


def _family(service: Service) -> list[psutil.Process]:
    return service.process.children(recursive=True)
