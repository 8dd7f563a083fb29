"""How soon the environment service has recovered from each fault that it must survive.

    python -m benchmarks.env_faults [--times 10] [--only hung_step] [--json out.json]

Each fault is done to a real service process with real workers, as often as told; what is measured is the time from the
fault until everything it touched is answered as it should be. Wrong answers, processes and leases that stay end the
run with an error. Exit status 1 where a worst time exceeds what is wanted.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import psutil
from gigpo_proto.env.v1 import env_pb2, env_pb2_grpc

from services.env.tools.bench_load import Service, served
from tests.integration.env.env_caller import Caller, reached

STEP_TIMEOUT_S, TTL_S, LEASES, EPISODES, TURNS = 2.0, 3.0, 64, 8, 10
WORKER_LOST_S = 10.0
"""Wanted after a worker, or all of them, are lost; also asked of the faults for which the design names no time."""
AFTER_DEADLINE_S = 1.0
SETTLED_WITHIN_S = 30.0
EVERY_S = 0.005
GIVEN_UP_AFTER_S = 120.0
FAULTY = "tests.integration.env.faulty_environment"
EXTRA = {"faulty": f"{FAULTY}:Faulty", "moderate": f"{FAULTY}:Moderate"}
SETTINGS: dict[str, Any] = {
    "step_timeout_s": STEP_TIMEOUT_S,
    "lease_ttl_s": TTL_S,
    "worker_memory_mb": 256,
    "worker_idle_s": 3600,
    "extra_environments": json.dumps(EXTRA),
}


@dataclass(frozen=True)
class Scene:
    """A service that a fault is done to, and a client of it. `folder` is for files that environments wait for."""

    service: Service
    caller: Caller
    folder: Path

    def file(self) -> Path:
        """A path that is not used yet."""
        return self.folder / f"{time.monotonic_ns()}"

    async def played(self, environment: str = "faulty") -> list[str]:
        """Leases of a group whose episodes are under way."""
        leases = await self.caller.open(environment, n=EPISODES)
        for seq in range(1, TURNS + 1):
            await self.steps(leases, seq)
        return leases

    async def steps(self, leases: list[str], seq: int) -> None:
        """Take a step in each. RuntimeError: an answer is not what the undisturbed episode's would be."""
        for result in await self.caller.batch(*((lease, seq, "") for lease in leases)):
            right(result.outcome, seq)


def right(outcome: env_pb2.Outcome, seq: int) -> None:
    """RuntimeError: this is no answer to the step `seq`."""
    if outcome.HasField("fault") or outcome.observation.text != f"count {seq}" or outcome.score != seq:
        raise RuntimeError(f"step {seq} was answered with {outcome}")


def faulted(outcome: env_pb2.Outcome, fault_class: int) -> None:
    """RuntimeError: this is no fault of that class, or more than a fault."""
    if outcome != env_pb2.Outcome(fault=outcome.fault) or outcome.fault.fault_class != fault_class:
        raise RuntimeError(f"want a fault of class {fault_class} and nothing else, got {outcome}")


async def worker_killed(scene: Scene, environment: str = "faulty") -> float:
    """Kill a worker in the middle of a step while its neighbours' steps wait; measure until all have their answers."""
    leases, gate = await scene.played(environment), scene.file()
    others = set(scene.service.process.children())
    held = asyncio.create_task(scene.caller.step(leases[0], TURNS + 1, f"wait-for {gate}"))
    await reached(gate.with_name(gate.name + ".reached"))
    waiting = asyncio.create_task(scene.steps(leases[1:], TURNS + 1))
    await asyncio.sleep(0.05)  # wait until they have arrived
    began = time.perf_counter()
    for worker in others:
        worker.kill()
    gate.touch()  # the second time the step goes through
    right(await held, TURNS + 1)
    await waiting
    return time.perf_counter() - began


async def own_worker_killed(scene: Scene) -> float:
    """The same where the environment has workers of its own."""
    return await worker_killed(scene, "moderate")


async def hung_step(scene: Scene) -> float:
    """Measure from the hung step's sending until its fault and its neighbours' answers have come."""
    leases = await scene.played()
    began = time.perf_counter()
    hanging = asyncio.create_task(scene.caller.step(leases[0], TURNS + 1, "sleep 600"))
    await scene.steps(leases[1:], TURNS + 1)
    faulted(await hanging, env_pb2.FAULT_CLASS_INFRA)
    return time.perf_counter() - began


async def _fault_of(scene: Scene, action: str) -> float:
    leases = await scene.played()
    began = time.perf_counter()
    faulted(await scene.caller.step(leases[0], TURNS + 1, action), env_pb2.FAULT_CLASS_ENV_BUG)
    await scene.steps(leases[1:], TURNS + 1)
    return time.perf_counter() - began


async def memory_bomb(scene: Scene) -> float:
    """A step that takes what memory there is: until its fault and its neighbours' next answers."""
    return await _fault_of(scene, "hoard")


async def exception_in_step(scene: Scene) -> float:
    """Measure until the step's fault and its neighbours' next answers have come."""
    return await _fault_of(scene, "raise")


async def crash_in_reset(scene: Scene) -> float:
    """A reset that kills its worker, and the next one: until it is refused and the neighbours' steps are answered."""
    leases = await scene.played()
    began = time.perf_counter()
    try:
        await scene.caller.open(kwargs_json='{"reset": "die"}')
    except grpc.aio.AioRpcError as refused:
        if refused.code() is not grpc.StatusCode.UNAVAILABLE:
            raise
    else:
        raise RuntimeError("a reset that kills its worker opened a session")
    await scene.steps(leases, TURNS + 1)
    return time.perf_counter() - began


async def client_gone(scene: Scene) -> float:
    """A client that holds every lease goes away within a step: until another has room for as many, after the ttl."""
    async with calling(scene.service.address) as gone:
        leases = await gone.open(n=LEASES)
        call = gone.stub.Step(env_pb2.StepRequest(lease=leases[0], seq=1, action="sleep 0.5"))
        asking = asyncio.ensure_future(call)
        await asyncio.sleep(0.1)
        call.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asking
    return await _room_again(scene)


async def expired_lease(scene: Scene) -> float:
    """Every lease expires: until there is room for as many, after the ttl; a step on one is refused."""
    leases = await scene.caller.open(n=LEASES)
    late = await _room_again(scene)
    (result,) = await scene.caller.batch((leases[0], 1, ""))
    if result.refusal.code != grpc.StatusCode.NOT_FOUND.value[0]:
        raise RuntimeError(f"a step on an expired lease was answered with {result}")
    return late


async def _room_again(scene: Scene) -> float:
    """Seconds past the ttl until every lease can be had."""
    due = time.perf_counter() + TTL_S
    await asyncio.sleep(TTL_S)
    while True:
        try:
            leases = await scene.caller.open(n=LEASES)
        except grpc.aio.AioRpcError as full:
            if full.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED or time.perf_counter() > due + SETTLED_WITHIN_S:
                raise
            await asyncio.sleep(EVERY_S)
        else:
            late = time.perf_counter() - due
            await scene.caller.stub.Close(env_pb2.CloseRequest(leases=leases))
            return late


async def service_restarted(scene: Scene) -> float:
    """Killed and started again on its port: until its episodes are rebuilt there and go on. `scene` is not used."""
    with served(workers=2, max_leases=LEASES, **SETTINGS) as first:
        async with calling(first.address) as caller:
            group = await caller.group("faulty", n=EPISODES)
            digests = [group.observation.digest]
            for seq in range(1, TURNS + 1):
                results = await caller.batch(*((lease, seq, "") for lease in group.leases))
                digests.append(results[0].outcome.observation.digest)
        family = [first.process, *first.process.children(recursive=True)]
        began = time.perf_counter()
        first.process.kill()
    port = first.address.rpartition(":")[2]
    with served(workers=2, max_leases=LEASES, **SETTINGS, port=port) as second:
        async with calling(second.address) as caller:
            start = env_pb2.OpenGroupRequest(idempotency_key="again", environment="faulty", n=EPISODES)
            request = env_pb2.RebuildRequest(start=start, actions=[""] * TURNS, digests=digests)
            leases = list((await caller.stub.Rebuild(request)).leases)
            for result in await caller.batch(*((lease, TURNS + 1, "") for lease in leases)):
                right(result.outcome, TURNS + 1)
            took = time.perf_counter() - began
    if psutil.wait_procs(family, timeout=SETTLED_WITHIN_S)[1]:
        raise RuntimeError("a killed service left workers")
    return took


Fault = Callable[[Scene], Awaitable[float]]
FAULTS: dict[Fault, float] = {
    worker_killed: WORKER_LOST_S,
    own_worker_killed: WORKER_LOST_S,
    hung_step: STEP_TIMEOUT_S + AFTER_DEADLINE_S,
    memory_bomb: WORKER_LOST_S,
    crash_in_reset: WORKER_LOST_S,
    exception_in_step: WORKER_LOST_S,
    client_gone: WORKER_LOST_S,
    expired_lease: WORKER_LOST_S,
    service_restarted: WORKER_LOST_S,
}
"""Fault -> wanted within, seconds."""


@contextlib.asynccontextmanager
async def calling(address: str) -> AsyncIterator[Caller]:
    """A client of its own."""
    async with grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        stub = env_pb2_grpc.EnvironmentServiceStub(channel)  # type: ignore[no-untyped-call,unused-ignore]
        yield Caller(stub, address, itertools.count(time.monotonic_ns()))  # keys that no other client has used


async def settled(scene: Scene, processes: int) -> None:
    """Every lease can be had again and only workers are left. RuntimeError: they are not."""
    await scene.caller.stub.Close(env_pb2.CloseRequest(leases=scene.caller.leases))
    scene.caller.leases.clear()
    await _room(scene)
    until = time.perf_counter() + SETTLED_WITHIN_S
    while (found := len(scene.service.process.children(recursive=True))) != processes:
        if time.perf_counter() > until:
            raise RuntimeError(f"want {processes} processes of workers, got {found}")
        await asyncio.sleep(0.05)


async def _room(scene: Scene) -> None:
    leases = await scene.caller.open(n=LEASES)
    await scene.caller.stub.Close(env_pb2.CloseRequest(leases=leases))


async def recoveries(fault: Fault, times: int, folder: Path) -> list[float]:
    """Seconds until all was well again, once for each time."""
    taken = []
    with served(workers=2, max_leases=LEASES, **SETTINGS) as service:
        async with calling(service.address) as caller:
            scene = Scene(service, caller, folder)
            await caller.open("moderate")  # its workers come at its first session, and stay
            processes = len(service.process.children())
            await settled(scene, processes)
            for _ in range(times):
                async with asyncio.timeout(GIVEN_UP_AFTER_S):
                    taken.append(await fault(scene))
                    await settled(scene, processes)
        family = [service.process, *service.process.children(recursive=True)]
    if psutil.wait_procs(family, timeout=SETTLED_WITHIN_S)[1]:
        raise RuntimeError("the service left processes behind")
    return taken


def main() -> None:
    """Measure and print."""
    names = {fault.__name__: fault for fault in FAULTS}
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=10, help="how often each fault is done")
    parser.add_argument("--only", choices=names, action="append", help="this fault; may be given again")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    figures: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in options.only or names:
            taken, wanted = asyncio.run(recoveries(names[name], options.times, Path(folder))), FAULTS[names[name]]
            figures[name] = {
                "median_s": round(statistics.median(taken), 3),
                "worst_s": round(max(taken), 3),
                "wanted_s": wanted,
                "held": max(taken) <= wanted,
            }
            print(f"{name:20}", *(f"{key} {value}" for key, value in figures[name].items()), flush=True)
    document = {"benchmark": "env_faults", "times": options.times, **figures, "load_average": os.getloadavg()[0]}
    if options.json:
        options.json.write_text(json.dumps(document, indent=2) + "\n")
    sys.exit(0 if all(figure["held"] for figure in figures.values()) else 1)


if __name__ == "__main__":
    main()
