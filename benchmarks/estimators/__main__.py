"""Bias, noise and alignment of every estimator against true advantages: `make estimators`.

    python -m benchmarks.estimators [--folds 5] [--groups 24] [--worlds corner,fetch] [--record]

The true advantage of an action is Q - V of the undiscounted return up to the horizon, exact by dynamic programming on
two grids and on small rooms of the household. Groups of n episodes are sampled from three stages of a policy at three
levels of noise in the environment, and all estimators see the same groups. Intervals are 95 %, over independent folds.
`--record` writes table and plot to benchmarks/results/ and keeps what is there of other worlds.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from benchmarks.advantages import processor_name
from benchmarks.estimators.measures import Cells, alignment
from benchmarks.estimators.tabular import Task, explored, policy, sampled, true_advantages
from benchmarks.learning.cells import interval
from gigpo.env.environment import Environment
from gigpo_core import AdvantageConfig, compute_advantages
from services.env.environments.alfworld.environment import Alfworld, AlfworldKwargs
from services.env.environments.alfworld.game import CHANGE_OF
from services.env.environments.grid import Grid, GridKwargs

WORLDS: dict[str, Environment] = {
    "corner": Grid(GridKwargs(goal="corner", size=(3,), walls=(0,), max_turns=12)),
    "fetch": Grid(GridKwargs(size=(4,), walls=(2,), items=2, furniture=2, max_turns=20)),
    "household": Alfworld(AlfworldKwargs(objects=1, task_types=("pick_and_place_simple", *CHANGE_OF), max_turns=20)),
}
"""Each has few enough states to list; the household tells the last command's effect alone, so its anchors are
ambiguous."""
SKILLS = {"early": 0.1, "middle": 0.5, "late": 0.85}
"""Stage -> how often the policy takes a quickest action; else it takes any."""
NOISES, SIZES, TASKS = (0.0, 0.1, 0.3), (2, 4, 8, 16, 32), 4
CONFIGS = {
    "grpo": AdvantageConfig("grpo"),
    "rloo": AdvantageConfig("rloo"),
    "gigpo": AdvantageConfig("gigpo"),
    "gigpo mean_std": AdvantageConfig("gigpo", norm="mean_std"),
    "gigpo gamma 1": AdvantageConfig("gigpo", gamma=1.0),
    "gigpo omega 4": AdvantageConfig("gigpo", gigpo_step_advantage_weight=4.0),
    "gigpo shrinkage 0 (BiPACE)": AdvantageConfig("gigpo", step_shrinkage=0.0),
    "BiPACE, omega 8": AdvantageConfig("gigpo", step_shrinkage=0.0, gigpo_step_advantage_weight=8.0),
    "gigpo shrinkage 2, gate 4 (ECPO)": AdvantageConfig("gigpo", step_shrinkage=2.0, step_variance_gate=4.0),
    "ECPO, omega 4": AdvantageConfig(
        "gigpo", step_shrinkage=2.0, step_variance_gate=4.0, gigpo_step_advantage_weight=4.0
    ),
    "hgpo": AdvantageConfig("hgpo"),
    "graphgpo": AdvantageConfig("graphgpo"),
    "gagpo": AdvantageConfig("gagpo"),
    "gagpo lambda 0.5": AdvantageConfig("gagpo", gae_lambda=0.5),
    "g2po": AdvantageConfig("g2po"),
    "g2po omega 4": AdvantageConfig("g2po", gigpo_step_advantage_weight=4.0),
}
RESULTS = Path(__file__).parents[1] / "results"
MEASURES = ("cosine", "rank", "sign", "bias", "noise")


def measured(
    tasks: Sequence[Task], skill: float, noise: float, size: int, folds: int, groups: int
) -> list[dict[str, Any]]:
    """One record an estimator: each measure's mean over folds, and half of its 95 % interval."""
    chances = [policy(task, skill) for task in tasks]
    truths = [true_advantages(task, chance, noise) for task, chance in zip(tasks, chances, strict=True)]
    starts = torch.tensor([0, *(one.numel() for one in truths)]).cumsum(0).tolist()
    flat = torch.cat([one.flatten() for one in truths])
    found: dict[str, dict[str, list[float]]] = {name: {one: [] for one in MEASURES} for name in CONFIGS}
    for fold in range(folds):
        generator = torch.Generator().manual_seed(fold)
        cells = {name: Cells(flat) for name in CONFIGS}
        rows: dict[str, list[torch.Tensor]] = {name: [] for name in CONFIGS}
        truth: list[torch.Tensor] = []
        for place, (task, chance) in enumerate(zip(tasks, chances, strict=True)):
            batch, state, action = sampled(task, chance, noise, groups, size, generator)
            _, states, actions = truths[place].shape
            cell = starts[place] + (batch.step_index * states + state) * actions + action
            truth.append(flat[cell])
            for name, config in CONFIGS.items():
                advantage = compute_advantages(batch, config).advantage
                cells[name].add(cell, advantage)
                rows[name].append(advantage)
        for name in CONFIGS:
            bias, spread = cells[name].bias_and_noise()
            values = {**alignment(torch.cat(rows[name]), torch.cat(truth)), "bias": bias, "noise": spread}
            for one, value in values.items():
                found[name][one].append(value)
    return [
        {"estimator": name, **{one: [fmean(values), interval(values)] for one, values in found[name].items()}}
        for name in CONFIGS
    ]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.estimators", description=__doc__)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--groups", type=int, default=24, help="of each task and fold")
    parser.add_argument("--worlds", default=",".join(WORLDS), help="with commas")
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    began, records = time.monotonic(), []
    for world in options.worlds.split(","):
        tasks = [explored(WORLDS[world], seed) for seed in range(TASKS)]
        for stage, skill in SKILLS.items():
            for noise in NOISES:
                for size in SIZES:
                    place = {"world": world, "stage": stage, "noise": noise, "n": size}
                    rows = measured(tasks, skill, noise, size, options.folds, max(8, options.groups * 8 // size))
                    records += [{**place, **row} for row in rows]
        print(f"{world}: {time.monotonic() - began:.0f} s", flush=True)
    recorded = RESULTS / "estimators.json"
    if options.record:
        new = set(options.worlds.split(","))
        earlier = json.loads(recorded.read_text())["records"] if recorded.exists() else []
        records = [*(one for one in earlier if one["world"] not in new), *records]
        facts = {"benchmark": "estimators", "machine": processor_name(), "folds": options.folds}
        recorded.write_text(json.dumps({**facts, "groups": options.groups, "records": records}) + "\n")
        plot(records, RESULTS / "estimators.png")
    print(summary(records))


def summary(records: Sequence[dict[str, Any]]) -> str:
    """Each estimator's measures at n = 8, mean over stages and noises, by world; the cosine by stage."""
    lines = [
        "| world | estimator | cosine | early | middle | late | rank | sign | bias | noise |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for world in dict.fromkeys(record["world"] for record in records):
        here = [record for record in records if record["world"] == world and record["n"] == 8]
        for name in CONFIGS:
            own = [record for record in here if record["estimator"] == name]
            stages = [fmean(one["cosine"][0] for one in own if one["stage"] == stage) for stage in SKILLS]
            error = (sum(one["cosine"][1] ** 2 for one in own)) ** 0.5 / len(own)
            cells = [f"{fmean(one['cosine'][0] for one in own):.3f} ± {error:.3f}", *(f"{one:.3f}" for one in stages)]
            cells += [f"{fmean(one[measure][0] for one in own):.3f}" for measure in MEASURES[1:]]
            lines.append(f"| {world} | {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def plot(records: Sequence[dict[str, Any]], path: Path) -> None:
    """The cosine by n, one panel a world and stage, mean over the noises."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(len(WORLDS), len(SKILLS), figsize=(15, 13), sharex=True, sharey=True)
    for line, world in zip(panels, WORLDS, strict=True):
        for panel, stage in zip(line, SKILLS, strict=True):
            for number, name in enumerate(CONFIGS):
                own = [one for one in records if (one["world"], one["stage"], one["estimator"]) == (world, stage, name)]
                means = [fmean(one["cosine"][0] for one in own if one["n"] == size) for size in SIZES]
                panel.plot(SIZES, means, label=name, color=f"C{number % 10}", linestyle=("-", "--")[number // 10])
            panel.set(title=f"{world}, {stage}", xscale="log", xticks=SIZES, xticklabels=SIZES)
    panels[0][0].set_ylabel("cosine with the true advantage")
    panels[-1][1].set_xlabel("episodes of a group")
    figure.legend(*panels[0][0].get_legend_handles_labels(), loc="center right", fontsize="small")
    figure.tight_layout(rect=(0, 0, 0.83, 1))
    figure.savefig(path, dpi=80)


if __name__ == "__main__":
    main()
