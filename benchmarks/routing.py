"""How busy replicas are when equal groups begin at one moment: by load, and by the hash of the group alone.

    python -m benchmarks.routing [--groups 16] [--replicas 8] [--episodes 8] [--steps 20] [--draws 50] [--json out.json]

A simulation with the worker's own `Routes`: every replica computes at one rate, which its prompts share equally, and an
environment answers at once. `busy` is work done / (replicas x the time until the last episode ends). `stayed` is the
share of the prompts after an episode's first one that went where the episode was before: its prefix is in the cache
there. Both are means over draws of the groups' ids, with the least in brackets.
"""

from __future__ import annotations

import argparse
import heapq
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from statistics import mean

from services.contracts.arrays import pack_int32
from services.contracts.messages import GenerateItem
from services.contracts.sampling import Sampling
from services.rollout.ports import Ask
from services.rollout.routes import Routes, ranked, tokens_of

PROMPT_TOKENS, MOST_TOKENS = 100, 28
Choose = Callable[[Ask, Sequence[str]], str]


@dataclass
class _Replica:
    """Shares its rate of 1 equally: `done` is what each prompt that is here has got since the beginning."""

    at: float = 0.0
    done: float = 0.0
    prompts: list[tuple[float, int, Ask]] = field(default_factory=list)
    """(`done` at which it ends, number, prompt), a heap."""

    def pass_time(self, now: float) -> None:
        if self.prompts:
            self.done += (now - self.at) / len(self.prompts)
        self.at = now

    def next_end(self) -> float:
        return self.at + (self.prompts[0][0] - self.done) * len(self.prompts) if self.prompts else float("inf")


def simulated(
    routes: Routes, choose: Choose, groups: Sequence[str], replicas: int, n: int, steps: int
) -> tuple[float, float]:
    """(busy, stayed) for groups of n episodes of so many steps, all opened at time 0."""
    names = [f"replica-{i}" for i in range(replicas)]
    pool = {name: _Replica() for name in names}
    numbers, left, home = count(), {}, dict[str, str]()
    now, moved = 0.0, 0

    def send(ask: Ask) -> None:
        nonlocal moved
        name = choose(ask, names)
        moved += home.get(ask.episode_id, name) != name
        home[ask.episode_id] = name
        routes.asked(name, tokens_of(ask))
        pool[name].pass_time(now)
        heapq.heappush(pool[name].prompts, (pool[name].done + tokens_of(ask), next(numbers), ask))

    for group in groups:
        for k in range(n):
            ask = Ask("job", group, f"{group}/{k}", GenerateItem(_PROMPT, 0, item_id=""), 0, _SAMPLING)
            left[ask.episode_id] = steps - 1
            send(ask)
    while any(replica.prompts for replica in pool.values()):
        name = min(names, key=lambda one: pool[one].next_end())
        now = pool[name].next_end()
        pool[name].pass_time(now)
        ask = heapq.heappop(pool[name].prompts)[2]
        routes.asked(name, -tokens_of(ask))
        if left[ask.episode_id]:
            left[ask.episode_id] -= 1
            send(ask)
    prompts = len(groups) * n * steps
    return prompts * (PROMPT_TOKENS + MOST_TOKENS) / (replicas * now), 1 - moved / max(1, prompts - len(groups) * n)


_PROMPT, _SAMPLING = pack_int32([7] * PROMPT_TOKENS), Sampling(1.0, MOST_TOKENS, ())


def measured(draws: int, groups: int, replicas: int, n: int, steps: int) -> dict[str, dict[str, float]]:
    """`routes` and `hash` -> mean and least of busy and stayed over the draws."""
    found = {}
    for name in ("routes", "hash"):
        results = []
        for draw in range(draws):
            routes = Routes()
            choose: Choose = (
                routes.choose if name == "routes" else lambda ask, serving: ranked(ask.group_id, serving)[0]
            )
            ids = [f"{draw}-{i}" for i in range(groups)]
            results.append(simulated(routes, choose, ids, replicas, n, steps))
        busy, stayed = zip(*results, strict=True)
        found[name] = {"busy": mean(busy), "least_busy": min(busy), "stayed": mean(stayed), "least_stayed": min(stayed)}
    return found


def main() -> None:
    """Print the table, and write it where --json says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for flag, default in (("groups", 16), ("replicas", 8), ("episodes", 8), ("steps", 20), ("draws", 50)):
        parser.add_argument(f"--{flag}", type=int, default=default)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    found = measured(args.draws, args.groups, args.replicas, args.episodes, args.steps)
    for name, row in found.items():
        busy, stayed = (f"{key} {row[key]:.3f} ({row[f'least_{key}']:.3f})" for key in ("busy", "stayed"))
        print(f"{name:7} {busy}  {stayed}")
    if args.json:
        sizes = {name: getattr(args, name) for name in ("groups", "replicas", "episodes", "steps", "draws")}
        args.json.write_text(json.dumps({**sizes, **found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
