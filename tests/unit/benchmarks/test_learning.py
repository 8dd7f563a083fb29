"""The learning harness goes on where it was stopped, and says what it did."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from benchmarks.learning.cells import cell_folder, interval, learned, made_spec, table
from benchmarks.learning.report import contrasts, plot, write_report
from benchmarks.learning.run import Run
from services.contracts import ids
from services.contracts.algorithm import keys_of_estimator
from services.contracts.ids import Purpose
from services.contracts.job import JobSpec, parse_spec
from services.contracts.metrics import of_the_clock
from services.env.environments.grid import Grid, GridKwargs

BATCHES = 3
PERTURBED = {"plain": None, "changed": 1, "again": 1}


def document(**algorithm: Any) -> dict[str, Any]:
    found = yaml.safe_load(Path("examples/default.yaml").read_text())
    found["model"]["scratch"].update(hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=1)
    found["model"]["warmstart"].update(
        warmstart_rows=200, warmstart_steps=3, warmstart_batch_size=8, warmstart_max_invalid=1.0
    )
    found["environment"]["max_turns"] = 4
    found["rollout"].update(groups_per_batch=2, num_generations=3)
    found["training"].update(total_batches=BATCHES, minibatches=1)
    found["evaluation"] = {"eval_episodes": 3}
    found["checkpoint"] = {"checkpoint_every": 1}
    estimator = algorithm.get("advantage_estimator", "gigpo")
    found["algorithm"] = {**keys_of_estimator(estimator, found["algorithm"]), **algorithm}
    return dict(found)


def small(**algorithm: Any) -> JobSpec:
    return parse_spec(document(**algorithm))


def facts(run: Run) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if not of_the_clock(name)} for row in run.curve]


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    whole = Run(small(), tmp_path / "whole")
    end = whole.run()
    assert len({one["panel"] for one in end.evaluations}) == 1
    assert {len(one["outcomes"]) for one in end.evaluations} == {3}
    for stop in (0, 2):
        Run(small(), tmp_path / f"from{stop}").run(until=stop)
        parted = Run(small(), tmp_path / f"from{stop}")
        assert parted.position.batch == stop
        assert parted.run().evaluations == end.evaluations
        assert facts(parted) == facts(whole)
    assert [one["label"] for one in end.evaluations] == ["before", "after"]
    assert sum(row["env_steps"] for row in whole.curve) == end.env_steps
    assert end.cpu_s.keys() == {"warmstart", "rollout", "training", "evaluation"}


def test_a_run_ends_with_the_batch_that_reaches_its_budget_of_steps(tmp_path: Path) -> None:
    first = Run(small(), tmp_path / "first").run(until=1).env_steps
    end = Run(small(), tmp_path / "whole").run(env_steps=first + 1)
    assert (end.batch, end.evaluations[-1]["label"], end.evaluations[-1]["version"]) == (2, "after", 2)


def test_other_last_digits_lead_to_another_run_of_the_same_tasks(tmp_path: Path) -> None:
    plain, changed, again = (Run(small(), tmp_path / name, perturb=seed) for name, seed in PERTURBED.items())
    for run in (plain, changed, again):
        run.run(until=1)
    assert [row["loss"] for row in changed.curve] == [row["loss"] for row in again.curve]
    assert [row["loss"] for row in changed.curve] != [row["loss"] for row in plain.curve]
    assert changed.position.evaluations[0]["panel"] == plain.position.evaluations[0]["panel"]


def test_what_a_killed_run_wrote_after_its_checkpoint_is_done_again(tmp_path: Path) -> None:
    run = Run(small(), tmp_path)
    run.run(until=1)
    state = tmp_path.with_name("kept")
    shutil.copytree(tmp_path, state)
    run.run(until=2)
    shutil.copy(tmp_path / "metrics.jsonl", state / "metrics.jsonl")  # a record without its checkpoint
    assert [row["batch"] for row in Run(small(), state).curve] == [0]


@pytest.mark.parametrize("algorithm", [{"advantage_estimator": "rloo", "gamma": 0.95, "norm": "mean"},
                                       {"advantage_estimator": "gagpo", "gae_lambda": 0.5},
                                       {"step_shrinkage": 2.0, "step_variance_gate": 4.0}], ids=str)  # fmt: skip
def test_every_kind_of_estimator_learns(tmp_path: Path, algorithm: dict[str, Any]) -> None:
    run = Run(small(**algorithm), tmp_path)
    run.run(until=1)
    assert len(run.curve) == 1


@pytest.mark.parametrize("settings", [{"algorithm": {"dynamic_sample": True}}, {"rollout": {"max_staleness": 1}},
                                      {"model": {"torch_dtype": "bfloat16"}}], ids=str)  # fmt: skip
def test_what_needs_services_is_refused(tmp_path: Path, settings: dict[str, Any]) -> None:
    sections = document()
    for section, values in settings.items():
        sections[section].update(values)
    with pytest.raises(SystemExit, match="the harness trains"):
        Run(parse_spec(sections), tmp_path)


def test_tuning_shares_no_task_with_the_held_out_panel() -> None:
    asked = []
    for panel in ("tuning", "held-out"):
        spec = made_spec(document(), "gigpo", 0, [], panel)
        kwargs = GridKwargs(**spec.environment.environment_kwargs)
        seeds = [ids.task_seed(spec.evaluation.eval_seed, Purpose.EVALUATION, cursor) for cursor in range(64)]
        asked.append({Grid(kwargs).reset(seed, spec.environment.eval_split).task for seed in seeds})
    assert asked[0].isdisjoint(asked[1])
    with pytest.raises(SystemExit, match="want a train_split that is not the eval_split"):
        made_spec(document(), "gigpo", 0, ["environment.eval_split=train"], "tuning")


def test_the_cells_of_a_comparison_differ_in_what_was_asked_alone(tmp_path: Path) -> None:
    gigpo, grpo = (made_spec(document(), name, 3, ["algorithm.beta=0.01"], "tuning") for name in ("gigpo", "grpo"))
    assert (gigpo.algorithm.beta, gigpo.training.seed, grpo.algorithm.advantage_estimator) == (0.01, 3, "grpo")
    assert gigpo.evaluation.eval_seed == grpo.evaluation.eval_seed != small().evaluation.eval_seed
    assert cell_folder(tmp_path, gigpo) != cell_folder(tmp_path, grpo)
    assert cell_folder(tmp_path, gigpo) == cell_folder(tmp_path, gigpo)
    assert interval([0.5]) == 0.0
    assert interval([0.4, 0.6]) == pytest.approx(12.71 * 0.1)
    assert cell_folder(tmp_path, gigpo, 1) != cell_folder(tmp_path, gigpo)
    own = made_spec(document(), "gigpo+step_shrinkage=2+step_variance_gate=4", 3, [], "tuning").algorithm
    assert (own.advantage_estimator, own.step_shrinkage, own.step_variance_gate) == ("gigpo", 2, 4)


def test_a_report_holds_the_runs_that_have_ended_and_sets_estimators_against_each_other(tmp_path: Path) -> None:
    row = learned(small(), tmp_path / "one", "mine")
    assert f"{row['success']:.3f}" in table([row])
    won = {**row, "estimator": "other", "after": {**row["after"], "success": 1.0, "outcomes": "111"}}
    rows = [{**one, "seed": seed} for one in (won, row) for seed in (0, 1)]
    write_report(tmp_path / "report.json", rows, machine="an abacus")
    report = json.loads((tmp_path / "report.json").read_text())
    assert [(one["estimator"], one["seed"]) for one in report["runs"]] == [
        (n, s) for n in ("mine", "other") for s in (0, 1)
    ]
    assert report["contrasts"] == contrasts(report["runs"])
    assert report["contrasts"][0].startswith(f"mine - other: {row['success'] - 1:+.3f}")
    plot(rows, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
