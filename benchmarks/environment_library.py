"""The platform's environments, in process: how fast, how large, what an expert and chance reach, how states recur.

    python -m benchmarks.environment_library [--only webshop] [--tasks 40]

One line of JSON per case. Speeds are per CPU second of one core. Chance plays admissible actions; `mixed` episodes take
the expert's action half the time. Groups are 8 episodes of one task; of their steps `in_groups` share their anchor (or
their exact state) with a step of another episode, and `aliased` share their anchor with a step in another state.
"""

from __future__ import annotations

import argparse
import json
import random
import time
import tracemalloc
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import mean
from typing import Any

from gigpo.env.environment import Environment
from services.env.environments.alfworld.environment import Alfworld
from services.env.environments.alfworld.game import TASK_TYPES
from services.env.environments.grid import Grid
from services.env.environments.gymnasium_adapter import GymnasiumAdapter
from services.env.environments.minigrid import MiniGrid
from services.env.environments.search_qa.environment import SearchQa
from services.env.environments.sokoban.environment import Sokoban
from services.env.environments.webshop.environment import WebShop
from services.env.workers.episode import Episode
from tests.unit.env.experts import pusher, reader, shopper
from tests.unit.env.household_expert import homemaker

GROUP = 8
SPEED_STEPS = 4000


@dataclass
class Case:
    """A measured environment. `expert`: None where none is at hand; `tries`: actions where none are named."""

    name: str
    environment: type[Environment]
    kwargs: dict[str, Any]
    expert: Callable[..., str] | None = None
    tries: Callable[[Any], tuple[str, ...]] | None = None


@dataclass
class Steps:
    """The steps of one group: (episode, anchor, state)."""

    rows: list[tuple[int, bytes, bytes]] = field(default_factory=list)

    def in_groups(self, key: int) -> float:
        """Share of steps whose key (1 anchor, 2 state) another episode shows too."""
        episodes = defaultdict(set)
        for row in self.rows:
            episodes[row[key]].add(row[0])
        return mean(len(episodes[row[key]]) > 1 for row in self.rows)

    def aliased(self) -> float:
        """Share of steps whose anchor stands for more than one state."""
        states = defaultdict(set)
        for _, anchor, state in self.rows:
            states[anchor].add(state)
        return mean(len(states[anchor]) > 1 for _, anchor, _ in self.rows)


def lookups(environment: SearchQa) -> tuple[str, ...]:
    """An agent's questions by chance: the question itself, its trail, and nonsense for an answer."""
    question = environment._question
    searches = (question.text, *question.trail)
    return (*(f"<search>{text}</search>" for text in searches), "<answer>nobody knows</answer>")


PICK, LOOK = {"task_types": ["pick_and_place_simple"]}, {"task_types": ["look_at_obj_in_light"]}
ALL_TASKS = {"task_types": list(TASK_TYPES)}
FULL = {"receptacles": "all", "objects": "all", "max_turns": 30}
CASES = (
    Case("alfworld, 3 receptacles, pick and place", Alfworld, PICK, homemaker),
    Case("alfworld, 3 receptacles, look", Alfworld, LOOK, homemaker),
    Case("alfworld, 3 receptacles, all tasks, all commands", Alfworld, {**ALL_TASKS, "commands": "all"}, homemaker),
    Case(
        "alfworld, full rooms, all tasks, all commands", Alfworld, {**ALL_TASKS, **FULL, "commands": "all"}, homemaker
    ),
    Case("webshop 1k, canned", WebShop, {"queries": "canned"}, shopper),
    Case("webshop 20k, canned", WebShop, {"products": 20_000, "queries": "canned"}, shopper),
    Case("search_qa 2k", SearchQa, {"hops": [1, 2, 3]}, reader, lookups),
    Case("search_qa 20k", SearchQa, {"passages": 20_000, "hops": [1, 2, 3]}, reader, lookups),
    Case("sokoban 6x6, 1 box", Sokoban, {}, pusher),
    Case("sokoban 6x6, 2 boxes", Sokoban, {"boxes": [2]}, pusher),
    Case("sokoban 8x8, 3 boxes", Sokoban, {"size": [8], "boxes": [3], "max_moves": 30, "max_turns": 40}),
    Case("grid", Grid, {}),
    Case("grid, corner", Grid, {"goal": "corner", "size": [3], "walls": [0]}),
    Case("FrozenLake 4x4", GymnasiumAdapter, {"id": "FrozenLake-v1", "options": {"is_slippery": False}}),
    Case(
        "FrozenLake 6x6, drawn",
        GymnasiumAdapter,
        {"id": "FrozenLake-v1", "random_map": 6, "options": {"is_slippery": False}},
    ),
    Case("Taxi-v4", GymnasiumAdapter, {"id": "Taxi-v4"}),
    Case("CliffWalking-v1", GymnasiumAdapter, {"id": "CliffWalking-v1"}),
    Case("BabyAI-GoToObj-v0", MiniGrid, {}),
    Case("BabyAI-GoToObj-v0, board", MiniGrid, {"view": "board"}),
    Case("MiniGrid-DoorKey-5x5-v0", MiniGrid, {"id": "MiniGrid-DoorKey-5x5-v0"}),
)


class Player:
    """Opens sessions of a case and plays them."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.kwargs = case.environment.Kwargs.model_validate(case.kwargs)
        self.rng = random.Random(0)

    def opened(self, seed: int, split: str) -> tuple[Environment, Episode, Any]:
        """A session and its first observation."""
        environment = self.case.environment(self.kwargs)
        episode = Episode(environment, self.kwargs)
        return environment, episode, episode.reset(seed, split)

    def chance(self, environment: Environment, seen: Any) -> str:
        """Any action that is known to be one."""
        tries = self.case.tries
        return self.rng.choice(tries(environment) if tries else seen.admissible_actions)

    def played(self, seed: int, share: float) -> tuple[list[tuple[bytes, bytes]], bool, float]:
        """(anchor, state) of each step, whether it was won, and its score; `share` of the actions are the expert's.

        The tasks are those of the last split.
        """
        environment, episode, seen = self.opened(seed, self.case.environment.splits[-1])
        rows = []
        while True:
            rows.append((seen.anchor_key, seen.state_key))
            knows = self.case.expert is not None and self.rng.random() < share
            action = self.case.expert(environment) if knows else self.chance(environment, seen)  # type: ignore[misc]
            stepped = episode.step(1, action)
            seen = stepped.observation
            if stepped.terminated or stepped.truncated:
                return rows, stepped.won, stepped.score


def speed(player: Player) -> dict[str, float]:
    """Steps and resets per CPU second, and the size of a session."""
    started = time.process_time()
    player.opened(0, "train")
    first_s = time.process_time() - started
    started = time.process_time()
    for seed in range(50):
        player.opened(seed, "train")
    reset_ms = (time.process_time() - started) / 50 * 1e3
    steps, spent = 0, 0.0
    while steps < SPEED_STEPS and spent < 20:
        environment, episode, seen = player.opened(steps, "train")
        started = time.process_time()
        for _ in range(player.kwargs.max_turns):
            stepped = episode.step(1, player.chance(environment, seen))
            seen, steps = stepped.observation, steps + 1
            if stepped.terminated or stepped.truncated:
                break
        spent += time.process_time() - started
    tracemalloc.start()
    held = [player.opened(seed, "train") for seed in range(100)]
    size_kib = tracemalloc.get_traced_memory()[0] / len(held) / 1024
    tracemalloc.stop()
    return {
        "first_reset_cpu_s": round(first_s, 3),
        "reset_cpu_ms": round(reset_ms, 3),
        "steps_per_cpu_s": round(steps / spent),
        "session_kib": round(size_kib, 1),
    }


def reached(player: Player, tasks: int, share: float) -> dict[str, float]:
    """Success, length and how states recur in groups of 8."""
    groups, wins, lengths, scores = [], [], [], []
    for task in range(tasks):
        steps = Steps()
        for number in range(GROUP):
            rows, won, score = player.played(task, share)
            steps.rows.extend((number, *row) for row in rows)
            wins.append(won)
            lengths.append(len(rows))
            scores.append(score)
        groups.append(steps)
    return {
        "success": round(mean(wins), 3),
        "mean_score": round(mean(scores), 3),
        "steps": round(mean(lengths), 1),
        "in_groups_by_anchor": round(mean(group.in_groups(1) for group in groups), 2),
        "in_groups_by_state": round(mean(group.in_groups(2) for group in groups), 2),
        "aliased": round(mean(group.aliased() for group in groups), 2),
    }


def measured(case: Case, tasks: int) -> dict[str, Any]:
    """One line of the report."""
    player = Player(case)
    found: dict[str, Any] = {"case": case.name, **speed(player), "chance": reached(player, tasks, 0.0)}
    if case.expert:
        found["expert_success"] = round(mean(player.played(seed, 1.0)[1] for seed in range(200)), 3)
        found["mixed"] = reached(player, tasks, 0.5)
    return found


def main() -> None:
    """Measure the cases whose names contain `--only`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="part of the name of the cases to measure")
    parser.add_argument("--tasks", type=int, default=40, help="groups per case")
    options = parser.parse_args()
    for case in CASES:
        if options.only in case.name:
            print(json.dumps(measured(case, options.tasks)), flush=True)


if __name__ == "__main__":
    main()
