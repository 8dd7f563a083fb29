"""A job's needs against a machine: what is refused, what is warned of, and with which figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from services.api.jobs.estimates import estimates
from services.api.jobs.fitting import misfits, sized, too_long
from services.api.jobs.machine import Machine, this_machine
from services.api.jobs.offline import offline_dry_run
from services.api.jobs.rates import EarlierJob, Measured, time_range
from services.contracts.environment import EnvironmentInfo
from services.contracts.job import JobSpec, SpecError, parse_spec
from services.contracts.learner_memory import RankCount
from tests.model_folders import write_model

ENVIRONMENT = EnvironmentInfo(id="grid", vocabulary=["north"])
GB = 10**9
LAPTOP = Machine(24 * GB, 16 * GB, 0, 500 * GB, 100 * GB)


def spec(**sections: Any) -> JobSpec:
    return parse_spec({"model": {"scratch": {}}, "rollout": {"max_completion_length": 6}, **sections})


def large(layers: int) -> JobSpec:
    return spec(
        model={"scratch": {"hidden_size": 8192, "intermediate_size": 8192, "num_attention_heads": 64,
                           "num_hidden_layers": layers}}
    )  # fmt: skip


def fields(wanted: JobSpec, machine: Machine) -> tuple[list[str], list[str]]:
    problems, warnings = misfits(wanted, estimates(wanted, ENVIRONMENT, None), machine)
    return [field for field, _ in problems], [warning.partition(":")[0] for warning in warnings]


def test_a_small_job_fits() -> None:
    assert fields(spec(), LAPTOP) == ([], [])


def test_what_can_never_fit_is_refused_with_both_figures() -> None:
    wanted = large(100)
    problems, _ = misfits(wanted, estimates(wanted, ENVIRONMENT, None), LAPTOP)
    needs = estimates(wanted, ENVIRONMENT, None).ranges["trainer_memory_bytes"].low
    assert problems[0] == (
        "model.scratch",
        f"the trainer needs {sized(needs)} of memory or more, this machine has 24 GB",
    )
    assert fields(wanted, Machine(0, 0, 0, 0, 0)) == ([], [])  # nothing is known


def test_ranks_share_the_memory_and_have_a_gpu_each() -> None:
    wanted, ranks = large(8), RankCount(2, 2)
    needs = estimates(wanted, ENVIRONMENT, None, ranks=ranks)
    assert needs.trainer_ranks == 2
    assert (
        needs.ranges["trainer_memory_bytes"].low
        == estimates(wanted, ENVIRONMENT, None).ranges["trainer_memory_bytes"].low // 2
    )
    enough = 2 * int(needs.ranges["trainer_memory_bytes"].low)
    for memory, gpu, refused in ((enough, 0, False), (enough - 2, 0, True), (1, enough // 2, False)):
        problems, _ = misfits(wanted, needs, Machine(memory, memory, gpu, 0, 0))
        said = [sentence for _, sentence in problems if "each rank of the trainer needs" in sentence]
        assert bool(said) == refused, (memory, gpu)


def test_what_may_not_fit_is_warned_of() -> None:
    wanted = large(2)  # 15 GB of weights, gradients and moments, and activations
    refused, warned = fields(wanted, LAPTOP)
    assert (refused, "model.scratch" in warned) == ([], True)
    assert fields(wanted, Machine(24 * GB, 16 * GB, 141 * GB, 500 * GB, 400 * GB)) == (
        [],
        [],
    )  # the GPU's memory counts
    many = spec(rollout={"groups_per_batch": 1_000_000, "max_completion_length": 6})
    refused, warned = fields(many, LAPTOP)
    assert (refused, warned) == ([], ["rollout.groups_per_batch", "training.total_batches"])
    endless = spec(rollout={"groups_per_batch": 10**9, "max_completion_length": 6})
    assert "rollout.groups_per_batch" in fields(endless, LAPTOP)[0]
    kept = large(2).model_copy(update={"checkpoint": parse_spec({"model": {"scratch": {}}, "checkpoint": {
        "checkpoint_keep": 1000}, "rollout": {"max_completion_length": 6}}).checkpoint})  # fmt: skip
    assert "checkpoint.checkpoint_keep" in fields(kept, LAPTOP)[0]


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1500, "1.5 kB"),
        (24 * GB, "24 GB"),
        (159.2e12, "159 TB"),
        (4e18, "4,000 PB"),
    ],
)
def test_sizes_have_two_figures_and_a_unit(count: float, text: str) -> None:
    assert sized(count) == text


def test_this_machine_has_memory_and_a_disk(tmp_path: Path) -> None:
    here = this_machine(tmp_path / "not" / "yet")
    assert 0 < here.available <= here.memory
    assert 0 < here.disk_free < here.disk


def earlier(step_s: list[float], *, parameters: int = 1000, engine: str = "vllm", length: float = 10.0) -> EarlierJob:
    return EarlierJob(
        spec(inference={"engine": engine}), parameters, [Measured(one, length) for one in step_s], apart_s=30.0
    )


def test_the_time_is_that_of_earlier_jobs_that_were_alike() -> None:
    wanted = spec(environment={"max_turns": 20})
    other = [earlier([9.0], parameters=2000), earlier([9.0], engine="transformers"), earlier([])]
    assert time_range(wanted, 1000, 100, other) is None
    told = time_range(wanted, 1000, 100, [earlier([0.25, 0.5, 1.0]), *other])
    assert told is not None
    value, between = told
    assert value == 0.5 * 10 * 100 + 30
    assert (between.low, between.high) == (0.25 * 10 * 100 + 30, 1.0 * 20 * 100 + 30)
    assert between.basis == "3 batches of 1 earlier job like it here, their 10th to 90th percentile"
    short = time_range(spec(environment={"max_turns": 2}), 1000, 100, [earlier([0.5])])
    assert short is not None
    assert short[0] == 0.5 * 2 * 100 + 30  # its episodes are shorter than those were


def test_a_job_that_outlives_its_own_deadline_is_warned_of() -> None:
    wanted = spec(limits={"max_wall_s": 60})
    alike = [earlier([1.0], parameters=estimates(wanted, ENVIRONMENT, None).parameters)]
    needs = estimates(wanted, ENVIRONMENT, None, alike)
    assert too_long(wanted, estimates(wanted, ENVIRONMENT, None)) == []
    assert too_long(wanted, needs) == ["limits.max_wall_s: the job fails after 60 s, it needs 76,830 s or more"]


def catalogue() -> list[dict[str, Any]]:
    return [{"info": ENVIRONMENT.model_dump(mode="json"), "unavailable_reason": ""}]


def test_without_a_stack_the_same_is_said(tmp_path: Path) -> None:
    found = offline_dry_run(spec(inference={"engine": "transformers"}), catalogue(), tmp_path)
    assert found["estimates"]["parameters"] > 0
    assert found["estimates"]["time_s"] is None
    json.dumps(found)
    for wanted, field in [
        (large(10_000), "model.scratch"),
        (spec(environment={"environment": "gird"}), "environment.environment"),
        (spec(model={"model": "job:j1/final"}), "model.model"),
    ]:
        with pytest.raises(SpecError, match=f"^{field}: "):
            offline_dry_run(wanted, catalogue(), tmp_path)


def test_without_a_stack_nobody_tries_the_rows_and_the_rewards_and_that_is_told(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a", "solution": "b"')
    (tmp_path / "mine.py").write_text("def score(completion):\n    return 1\n")
    wanted = spec(
        environment={"use_gym_env": False, "environment_kwargs": {"data": str(tmp_path / "rows.jsonl")}},
        rewards={"reward_funcs": [f"{tmp_path}/mine.py:score"]},
        inference={"engine": "transformers"},
    )
    single = EnvironmentInfo(id="prompts", vocabulary=["a"])
    views = [{"info": single.model_dump(mode="json"), "unavailable_reason": ""}]
    told = "rewards.reward_funcs, environment.environment_kwargs.data: what is in these files is tried at submission"
    assert [one for one in offline_dry_run(wanted, views, tmp_path / "data")["warnings"] if one.startswith(told)]


def test_without_a_stack_the_folder_of_a_model_is_read_too(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    wanted = spec(model={"model": str(folder)}, inference={"engine": "transformers"})
    assert offline_dry_run(wanted, catalogue(), tmp_path / "data")["estimates"]["parameters"] > 40_000
    (folder / "chat_template.jinja").write_text("{% for")
    with pytest.raises(SpecError, match=r"^model\.model: the tokenizer's chat template, line 1: "):
        offline_dry_run(wanted, catalogue(), tmp_path / "data")
    (folder / "model.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(SpecError, match="got a Git LFS pointer"):
        offline_dry_run(wanted, catalogue(), tmp_path / "data")
