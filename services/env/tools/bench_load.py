"""The load that a benchmark puts on the environment service: many sessions in a closed loop, on one stream or in
batches."""

import asyncio
import contextlib
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import grpc
import psutil
from gigpo_proto.env.v1 import env_pb2

from services.env.tools.local import OPTIONS, EnvClient, Task

GROUP = 8
"""Sessions that are opened of one task."""
OPENINGS_AT_A_TIME = 32
BATCH = 64
"""Steps of one StepBatch; the rollout service sends together what its episodes ask for at one moment."""
CALL_TIMEOUT_S = 120.0


@dataclass
class Taken:
    """Steps that were taken, and what they took."""

    count: int = 0
    wall_s: float = 0.0
    latencies_s: list[float] = field(default_factory=list)
    cpu_s: dict[str, float] = field(default_factory=dict)
    """CPU seconds by process: service, workers, load."""

    def add(self, other: "Taken") -> None:
        """Count another measurement of the same thing in."""
        self.count += other.count
        self.wall_s += other.wall_s
        self.latencies_s += other.latencies_s
        for name, seconds in other.cpu_s.items():
            self.cpu_s[name] = self.cpu_s.get(name, 0.0) + seconds

    @property
    def per_second(self) -> float:
        """Steps a second."""
        return self.count / self.wall_s

    def cpu_ms_per_step(self, process: str) -> float:
        """CPU time of a process for a step, ms."""
        return 1000 * self.cpu_s[process] / self.count

    def percentile_ms(self, percent: float) -> float:
        """Latency that so many percent of the steps do not exceed, ms."""
        ordered = sorted(self.latencies_s)
        return 1000 * ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


@dataclass(frozen=True)
class Service:
    """A running environment service."""

    address: str
    process: psutil.Process

    def cpu_s(self) -> dict[str, float]:
        """CPU seconds so far, by process; `load` is this one."""
        workers = sum(cpu_s(worker) for worker in self.process.children(recursive=True))
        return {"service": cpu_s(self.process), "workers": workers, "load": cpu_s(psutil.Process())}

    def memory_mb(self) -> float:
        """Resident memory of the service and its workers, MiB."""
        family = [self.process, *self.process.children(recursive=True)]
        return sum(one.memory_info().rss for one in family) / 2**20


@contextlib.contextmanager
def served(*, workers: int, max_leases: int, tree: Path | None = None, **settings: object) -> Iterator[Service]:
    """A service in processes of its own, ended at the end; of another source tree where one is given. OSError where it
    does not start."""
    variables = {
        "workers": workers,
        "max_leases": max_leases,
        "port": 0,
        "drain_s": 0,
        "log_level": "ERROR",
        **settings,
    }
    own = {f"ENV_SERVICE_{name.upper()}": str(value) for name, value in variables.items()}
    if tree is not None:
        own["PYTHONPATH"] = os.pathsep.join((str(tree), str(tree / "proto")))
    command = [sys.executable, "-m", "services.env.main"]
    with subprocess.Popen(command, env=os.environ | own, stdout=subprocess.PIPE, text=True, cwd=tree) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise OSError(f"the environment service ended with status {process.wait()}")
            yield Service(json.loads(line)["address"], psutil.Process(process.pid))
        finally:
            process.terminate()


@dataclass(eq=False)
class _Session:
    lease: str
    able: Sequence[str]
    seq: int = 0
    sent_at: float = 0.0


class Load:
    """`n` sessions of a task, each with a seed of its group, random actions. Use as a context."""

    def __init__(self, service: Service, task: Task, n: int) -> None:
        self._service, self._task, self._n = service, task, n
        self._rng = random.Random(0)
        self._channel = grpc.aio.insecure_channel(service.address, options=OPTIONS)
        self._client = EnvClient(self._channel)
        self._by_lease: dict[str, _Session] = {}
        self._seeds = 0

    async def __aenter__(self) -> Self:
        room = asyncio.Semaphore(OPENINGS_AT_A_TIME)

        async def open_some(n: int) -> None:
            async with room:
                await self._open(n)

        sizes = [GROUP] * (self._n // GROUP) + ([self._n % GROUP] if self._n % GROUP else [])
        await asyncio.gather(*(open_some(size) for size in sizes))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close(list(self._by_lease))
        await self._channel.close(grace=None)

    async def run(self, seconds: float, *, think_s: float = 0.0, batched: bool = False) -> Taken:
        """Step every session again and again for so long; at least once each.

        Args:
            think_s: a session waits half to one and a half times this long before its next step.
            batched: by StepBatch, several batches at a time, in place of one StepStream; then `think_s` is 0.

        Raises:
            RuntimeError: a step was refused or failed.
        """
        for session in [session for session in self._by_lease.values() if not session.able]:
            await self._open_again(session)
        taken, before = Taken(), self._service.cpu_s()
        began = time.perf_counter()
        try:
            async with asyncio.TaskGroup() as later:
                if batched:
                    for batch in self._batches():
                        later.create_task(self._drive_batch(batch, taken, until=began + seconds))
                else:
                    await self._drive(taken, later, until=began + seconds, think_s=think_s)
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from failed
        taken.wall_s = time.perf_counter() - began
        taken.cpu_s = {name: spent - before[name] for name, spent in self._service.cpu_s().items()}
        return taken

    async def _drive(self, taken: Taken, later: asyncio.TaskGroup, *, until: float, think_s: float) -> None:
        """Send and receive on one stream. What needs no waiting goes out in one message, the rest in its own time."""
        stream = self._client.stub.StepStream(None)
        writing = asyncio.Lock()

        async def send(sessions: Sequence[_Session]) -> None:
            async with writing:
                await stream.write(self._steps(sessions))

        async def send_later(session: _Session) -> None:
            await asyncio.sleep(think_s * self._rng.uniform(0.5, 1.5))
            await send([session if session.able else await self._open_again(session)])

        await send(list(self._by_lease.values()))
        unanswered = len(self._by_lease)
        while unanswered:
            answer = await stream.read()
            assert isinstance(answer, env_pb2.StepBatchResponse), "the service ended the stream"
            results = answer.results
            now = time.perf_counter()
            sessions = [self._answered(result, taken, now) for result in results]
            if now > until:
                unanswered -= len(sessions)
                continue
            at_once = [session for session in sessions if session.able and not think_s]
            for session in sessions:
                if think_s or not session.able:
                    later.create_task(send_later(session))
            if at_once:
                await send(at_once)
        await stream.done_writing()

    def _batches(self) -> list[list[_Session]]:
        sessions = list(self._by_lease.values())
        return [sessions[first : first + BATCH] for first in range(0, len(sessions), BATCH)]

    async def _drive_batch(self, sessions: list[_Session], taken: Taken, *, until: float) -> None:
        """Send a batch, wait for it, send the next."""
        while True:
            results = (await self._client.stub.StepBatch(self._steps(sessions), timeout=CALL_TIMEOUT_S)).results
            now = time.perf_counter()
            sessions = [self._answered(result, taken, now) for result in results]
            if now > until:
                return
            sessions = [session if session.able else await self._open_again(session) for session in sessions]

    async def keep(self, seconds: float) -> None:
        """Do nothing but renew the leases for so long. RuntimeError where one has gone."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            request = env_pb2.RenewRequest(leases=list(self._by_lease))
            answer = await self._client.stub.Renew(request, timeout=30.0)
            if answer.unknown:
                raise RuntimeError(f"{len(answer.unknown)} leases ended by themselves")
            await asyncio.sleep(min(left, answer.ttl_s / 3))

    async def _open_again(self, session: _Session) -> _Session:
        """Another one in place of one whose episode is over."""
        await self._client.close([session.lease])
        del self._by_lease[session.lease]
        return (await self._open(1))[0]

    async def _open(self, n: int) -> list[_Session]:
        self._seeds += 1
        task = Task(self._task.environment, self._task.kwargs, self._task.split, self._seeds)
        group = await self._client.open(task, n)
        opened = [_Session(lease, self._able(group.observation)) for lease in group.leases]
        self._by_lease.update({session.lease: session for session in opened})
        return opened

    def _steps(self, sessions: Sequence[_Session]) -> env_pb2.StepBatchRequest:
        now = time.perf_counter()
        steps = []
        for session in sessions:
            session.seq += 1
            session.sent_at = now
            action = self._rng.choice(session.able)
            steps.append(env_pb2.StepRequest(lease=session.lease, seq=session.seq, action=action))
        return env_pb2.StepBatchRequest(steps=steps)

    def _answered(self, result: env_pb2.StepResult, taken: Taken, now: float) -> _Session:
        """The session, with the actions that it can take next: none, its episode is over."""
        outcome = result.outcome
        if result.HasField("refusal") or outcome.HasField("fault"):
            raise RuntimeError(f"a step failed: {result.refusal.message or outcome.fault.message}")
        session = self._by_lease[result.lease]
        taken.count += 1
        taken.latencies_s.append(now - session.sent_at)
        session.able = () if outcome.terminated or outcome.truncated else self._able(outcome.observation)
        return session

    def _able(self, seen: env_pb2.Observation) -> Sequence[str]:
        return list(seen.admissible_actions) or [""]


def cpu_s(process: psutil.Process) -> float:
    """CPU seconds of a process so far."""
    times = process.cpu_times()
    return times.user + times.system
