"""The environment service of this tree beside that of another one, such as an older commit's, under one load.

    git worktree add /tmp/older COMMIT
    python -m benchmarks.env_against /tmp/older [--rounds 9] [--seconds 3] [--json out.json]

Both services run at once and are loaded in turns, the order changing from round to round, so that other load on the
machine affects both. A ratio is of one round: this tree's cost over the other's; below 1 this one is faster. The CPU
time of a step hardly depends on what else runs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import quantiles

from services.env.tools.bench import LONG_EPISODE
from services.env.tools.bench_load import Load, Taken, served
from services.env.tools.local import Task

WAYS = {"stream": False, "batches": True}
COSTS: dict[str, Callable[[Taken], float]] = {
    "time": lambda taken: 1 / taken.per_second,
    "cpu": lambda taken: taken.cpu_ms_per_step("service") + taken.cpu_ms_per_step("workers"),
    "service_cpu": lambda taken: taken.cpu_ms_per_step("service"),
    "worker_cpu": lambda taken: taken.cpu_ms_per_step("workers"),
}


async def measure(other: Path, environment: str, sessions: int, rounds: int, seconds: float) -> dict[str, object]:
    """Ratios of this tree's cost of a step to the other tree's: median and quartiles over the rounds."""
    task = Task(environment, {"max_turns": LONG_EPISODE})
    found: dict[str, list[float]] = {f"{way}_{cost}": [] for way in WAYS for cost in COSTS}
    async with AsyncExitStack() as stack:
        loads = []
        for tree in (None, other):
            service = stack.enter_context(served(workers=1, max_leases=sessions + 64, tree=tree))
            load = await stack.enter_async_context(Load(service, task, sessions))
            await load.run(1.0)
            loads.append(load)
        for number in range(rounds):
            for way, batched in WAYS.items():
                taken: dict[Load, Taken] = {}
                for load in loads if number % 2 else reversed(loads):
                    taken[load] = await load.run(seconds, batched=batched)
                for cost, of in COSTS.items():
                    found[f"{way}_{cost}"].append(of(taken[loads[0]]) / of(taken[loads[1]]))
    return {name: _spread(values) for name, values in found.items()}


def _spread(ratios: list[float]) -> dict[str, float]:
    low, median, high = quantiles(ratios, n=4, method="inclusive")
    return {"median": median, "low_quartile": low, "high_quartile": high, "least": min(ratios), "most": max(ratios)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("other", type=Path, help="the other tree, a git worktree")
    parser.add_argument("--environment", default="alfworld")
    parser.add_argument("--sessions", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=3.0, help="how long one load lasts")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    before = os.getloadavg()[0]
    ratios = asyncio.run(
        measure(options.other.resolve(), options.environment, options.sessions, options.rounds, options.seconds)
    )
    told = {
        "benchmark": "env_against",
        "environment": options.environment,
        "sessions": options.sessions,
        "rounds": options.rounds,
        "seconds": options.seconds,
        "this": _commit(Path.cwd()),
        "other": _commit(options.other),
        "cores": len(os.sched_getaffinity(0)),
        "load_average": [before, os.getloadavg()[0]],
        "ratios": ratios,
    }
    print(json.dumps(told, indent=2))
    if options.json:
        options.json.write_text(json.dumps(told, indent=2) + "\n")


def _commit(tree: Path) -> str:
    return subprocess.run(
        ["git", "-C", str(tree), "rev-parse", "--short=10", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.strip()


if __name__ == "__main__":
    main()
