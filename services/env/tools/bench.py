"""Throughput and latency of the environment service through gRPC, beside an OpenEnv echo server.

One load generator in this process measures both in turns within one run, each in its own processes, so that other load
on the machine affects both. Closed loop: a session takes its next step as soon as it has its last answer.
"""

import os
import random
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import JsonValue

from services.env.settings import read_settings
from services.env.tools.bench_load import Load, Service, Taken, served
from services.env.tools.bench_openenv import OpenEnvLoad, OpenEnvMissingError, openenv_served
from services.env.tools.local import Task
from services.env.workers.episode import Episode
from services.env.workers.listing import worker_config
from services.env.workers.registry import Registry, valid_kwargs, valid_split

ROUNDS = 2
WARM_UP_S = 1.0
SESSIONS_HELD_PER_CORE = 256
LONG_EPISODE = 100_000
"""max_turns while measuring, so that sessions are not opened again all the time."""
THINK_S = 0.064
"""A paced session waits about so long before its next step, as for inference: 64 sessions take 1,000 steps a second."""
OWN_STEPS = 1000


Figures = dict[str, JsonValue]
"""Figures by name; null: it could not be measured."""


@dataclass(frozen=True)
class Plan:
    """A measurement. `hold_s` 0: holding is not measured."""

    environment: str
    kwargs: Mapping[str, JsonValue] | None
    sessions: int
    latency_sessions: int
    seconds: float
    hold_s: float
    workers: int

    @property
    def held(self) -> int:
        """Sessions to hold."""
        return SESSIONS_HELD_PER_CORE * _cores() if self.hold_s else 0


async def measure(plan: Plan) -> Figures:
    """Every figure. Latency is that of a step, from sending it to having its answer: the environment's own time is in
    it, and told as env_step_ms.

    Raises:
        OSError: the service does not start.
        UnavailableError: there is no such environment, or it cannot run here.
    """
    task = _task(plan)
    with served(workers=plan.workers, max_leases=plan.sessions + plan.held + 64) as service:
        return {
            "environment": plan.environment,
            "kwargs": dict(task.kwargs),
            "sessions": plan.sessions,
            **await _throughput(service, task, plan),
            **await _latency(service, task, plan),
            "env_step_ms": _own_time_ms(task),
            **(await _holding(service, task, plan) if plan.hold_s else {}),
            "seconds": plan.seconds,
            "workers": plan.workers,
            "cores": _cores(),
            "load_average": os.getloadavg()[0],
        }


async def _throughput(service: Service, task: Task, plan: Plan) -> Figures:
    """Steps a second, ours (on a stream, and in batches as the rollout service sends them) and OpenEnv's in turns."""
    ours, batched, theirs = Taken(), Taken(), Taken()
    async with Load(service, task, plan.sessions) as load:
        await load.run(WARM_UP_S)
        try:
            with openenv_served(processes=plan.workers + 1, sessions=plan.sessions) as address:
                async with OpenEnvLoad(address, plan.sessions) as other:
                    await other.run(WARM_UP_S)
                    for _ in range(ROUNDS):
                        ours.add(await load.run(plan.seconds / ROUNDS))
                        batched.add(await load.run(plan.seconds / ROUNDS, batched=True))
                        theirs.add(await other.run(plan.seconds / ROUNDS))
        except OpenEnvMissingError as error:
            ours.add(await load.run(plan.seconds))
            batched.add(await load.run(plan.seconds, batched=True))
            compared: Figures = {"openenv_steps_per_s": None, "openenv": str(error)}
        else:
            compared = {
                "openenv_steps_per_s": theirs.per_second,
                "openenv": f"its echo template, {plan.workers + 1} processes, {plan.sessions} sessions",
                "ratio": ours.per_second / theirs.per_second,
                "openenv_load_cpu_ms_per_step": theirs.cpu_ms_per_step("load"),
            }
    cpu: Figures = {f"{name}_cpu_ms_per_step": ours.cpu_ms_per_step(name) for name in ours.cpu_s}
    return {"steps_per_s": ours.per_second, "batched_steps_per_s": batched.per_second, **compared, **cpu}


async def _latency(service: Service, task: Task, plan: Plan) -> Figures:
    """Times of a step: with every session in a hurry, so that steps wait for each other, and at the pace of agents."""
    async with Load(service, task, plan.latency_sessions) as load:
        await load.run(WARM_UP_S)
        taken = await load.run(plan.seconds)
        paced = await load.run(plan.seconds, think_s=THINK_S)
    return {
        "latency_sessions": plan.latency_sessions,
        "p50_ms": taken.percentile_ms(50),
        "p99_ms": taken.percentile_ms(99),
        "paced_steps_per_s": paced.per_second,
        "paced_p50_ms": paced.percentile_ms(50),
        "paced_p99_ms": paced.percentile_ms(99),
    }


async def _holding(service: Service, task: Task, plan: Plan) -> Figures:
    """Open sessions, keep them for a while, then step each: how many answered, and the memory that they took."""
    async with Load(service, task, plan.held) as load:
        await load.keep(plan.hold_s)
        memory = service.memory_mb()
        answered = (await load.run(0.0)).count
    return {"held_sessions": answered, "held_s": plan.hold_s, "memory_mb": memory}


def _task(plan: Plan) -> Task:
    """The task with the kwargs that were given, or the environment's first example without its limit of turns."""
    if plan.kwargs is not None:
        return Task(plan.environment, plan.kwargs)
    found = _registry().find(plan.environment)
    return Task(plan.environment, {**(found.examples[0] if found.examples else {}), "max_turns": LONG_EPISODE})


def _own_time_ms(task: Task) -> float:
    """Mean time of a step without any service, ms."""
    found = _registry().find(task.environment)
    root = read_settings().data_root
    kwargs = valid_kwargs(found, task.kwargs_json, str(root.resolve()) if root else None)
    rng, steps, spent = random.Random(0), 0, 0.0
    while steps < OWN_STEPS:
        episode = Episode(found(kwargs), kwargs)
        seen, over = episode.reset(steps, valid_split(found, task.split)), False
        while not over and steps < OWN_STEPS:
            action = rng.choice(seen.admissible_actions or found.example_actions or ("",))
            began = time.perf_counter()
            stepped = episode.step(0, action)
            spent += time.perf_counter() - began
            seen, over, steps = stepped.observation, stepped.terminated or stepped.truncated, steps + 1
        episode.close()
    return 1000 * spent / steps


def _registry() -> Registry:
    config = worker_config(read_settings())
    if config.import_folder:  # workers look there too
        sys.path.append(config.import_folder)
    return Registry(config.environments, config.options)


def _cores() -> int:
    return len(os.sched_getaffinity(0))
