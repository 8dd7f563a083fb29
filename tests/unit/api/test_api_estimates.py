"""The figures and warnings of a dry run about a job's needs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from services.api.jobs.estimates import estimates, scratch_parameters, warnings
from services.api.jobs.hub import HubModel
from services.api.policies.safetensors_header import file_parameters
from services.contracts.environment import EnvironmentInfo
from services.contracts.job import JobSpec, ScratchModel, parse_spec
from services.trainer.job.restore import build_base
from services.trainer.learner.learner import Learner
from services.trainer.learner.scratch import build_scratch

WORDS = [f"w{number}" for number in range(30)]
ENVIRONMENT = EnvironmentInfo(id="grid", vocabulary=WORDS)


def spec(**sections: Any) -> JobSpec:
    document = {"model": {"scratch": {}}, "rollout": {"max_completion_length": 6}}
    return parse_spec({**document, **sections})


@pytest.mark.parametrize(
    "scratch", [ScratchModel(), ScratchModel(hidden_size=96, num_attention_heads=3, num_hidden_layers=3)]
)
def test_parameters_of_a_new_policy_are_counted_as_the_trainer_makes_it(scratch: ScratchModel, tmp_path: Path) -> None:
    wanted = spec(model={"scratch": scratch.model_dump()})
    build_base(wanted, ENVIRONMENT, tmp_path / "base", build_scratch)
    made = load_file(tmp_path / "base" / "model.safetensors")
    parameters = sum(tensor.numel() for tensor in made.values())
    assert estimates(wanted, ENVIRONMENT, None).parameters == parameters
    assert file_parameters(tmp_path / "base" / "model.safetensors") == parameters
    vocabulary = json.loads((tmp_path / "base" / "config.json").read_bytes())["vocab_size"]
    assert scratch_parameters(scratch, vocabulary) == parameters


def test_a_folder_is_counted_by_its_headers(tmp_path: Path) -> None:
    build_scratch(ScratchModel(), WORDS, 0, tmp_path / "base")
    figures = estimates(spec(model={"model": str(tmp_path / "base")}), ENVIRONMENT, None)
    files = {path.name: path for path in (tmp_path / "base").iterdir()}
    of_checkpoint = estimates(spec(model={"model": "job:a/final"}), ENVIRONMENT, files)
    assert figures.parameters == of_checkpoint.parameters > 0
    (tmp_path / "junk").write_bytes(b"\xff" * 40)
    assert file_parameters(tmp_path / "junk") == 0


def test_a_batch_is_every_episode_at_its_longest() -> None:
    wanted = spec(
        rollout={"groups_per_batch": 3, "num_generations": 4, "max_completion_length": 6},
        environment={"max_turns": 5, "max_prompt_tokens": 10},
        training={"total_batches": 7},
    )
    figures = estimates(wanted, ENVIRONMENT, None)
    assert figures.env_steps_per_batch == 3 * 4 * 5
    assert figures.env_steps == 7 * 60
    assert (figures.prompt_tokens_per_batch, figures.response_tokens_per_batch) == (600, 360)


@pytest.mark.parametrize(
    ("budget", "of_an_episode"),
    [
        (90, 10 + 26 + 42 + 58 + 74),  # whole: every turn adds a prompt and a reply
        (80, 10 + 26 + 42 + 58 + 74),  # the last reply just fits
        (60, 10 + 26 + 42 + 54 + 54),  # a turn that would leave no room for its reply is not shown
        (16, 5 * 10),  # every turn begins anew
    ],
)
def test_a_turn_of_a_conversation_reads_its_past_again(budget: int, of_an_episode: int) -> None:
    wanted = spec(
        rollout={"groups_per_batch": 3, "num_generations": 4, "max_completion_length": 6},
        environment={"max_turns": 5, "max_prompt_tokens": 10, "interaction": "conversation"}
        | {"max_context_tokens": budget},
    )
    figures = estimates(wanted, ENVIRONMENT, None)
    assert (figures.prompt_tokens_per_batch, figures.response_tokens_per_batch) == (12 * of_an_episode, 360)


def test_memory_grows_with_what_is_kept() -> None:
    def memory(**sections: Any) -> int:
        return estimates(spec(**sections), ENVIRONMENT, None).trainer_memory_bytes

    without = memory(algorithm={"beta": 0.0})
    parameters = estimates(spec(), ENVIRONMENT, None).parameters
    assert memory(algorithm={"beta": 0.1}) - without == 4 * parameters
    assert memory(training={"microbatch_tokens": 32_768}) > memory()
    assert memory(training={"gradient_checkpointing": True}) < memory()
    states = [
        estimates(spec(model={"scratch": {}, "torch_dtype": one}), ENVIRONMENT, None).ranges["trainer_memory_bytes"].low
        for one in ("float32", "bfloat16")
    ]
    assert states[0] == states[1], "what is trained is float32"


def test_the_tokens_that_could_have_been_sampled_are_kept_too() -> None:
    free, truncated = (
        estimates(spec(rollout={"max_completion_length": 6, "top_k": top_k}), ENVIRONMENT, None) for top_k in (0, 20)
    )
    of_a_step = 4 * 21 * 6
    assert truncated.disk_bytes - free.disk_bytes == of_a_step * free.env_steps
    assert truncated.queue_memory_bytes - free.queue_memory_bytes == of_a_step * 2 * free.env_steps_per_batch


@pytest.mark.parametrize("torch_dtype", ["float32", "bfloat16"])
def test_memory_of_adapters_is_that_of_the_learners_weights_gradients_and_moments(
    torch_dtype: str, tmp_path: Path
) -> None:
    lora = {"tuner_type": "lora", "lora_rank": 4, "torch_dtype": torch_dtype}
    wanted = spec(model={"scratch": {}, **lora}, algorithm={"beta": 0.1})
    build_base(wanted, ENVIRONMENT, tmp_path / "base", build_scratch)
    learner = Learner(wanted, tmp_path / "base")
    weights = list(learner.model.parameters())
    held = sum(weight.numel() * weight.element_size() for weight in weights)
    trained = sum(4 * weight.numel() for weight in weights if weight.requires_grad)
    states = estimates(wanted, ENVIRONMENT, None).ranges["trainer_memory_bytes"].low
    assert states == held + 3 * trained  # the gradient and two moments; the base is the reference


def test_a_whole_seven_billion_model_is_not_said_to_fit_where_its_states_do_not() -> None:
    """7.6 billion float32 weights, their gradients, two moments and the reference: 152 GB."""
    model = HubModel("a/b", "c0ffee", 7_600_000_000, {"hidden_size": 3584, "num_hidden_layers": 28})
    wanted = spec(model={"model": "a/b", "torch_dtype": "bfloat16"}, algorithm={"beta": 0.04})
    assert estimates(wanted, ENVIRONMENT, model).ranges["trainer_memory_bytes"].low == 5 * 4 * 7_600_000_000


def test_what_is_seldom_wanted_is_said_and_the_default_job_says_nothing() -> None:
    import yaml

    default = parse_spec(yaml.safe_load((Path(__file__).parents[3] / "examples" / "default.yaml").read_text()))
    assert warnings(default) == []
    odd = spec(
        evaluation={"eval_episodes": 16},
        training={"total_batches": 4, "warmup_batches": 9, "learning_rate": 1e-7},
        checkpoint={"checkpoint_every": 99},
    )
    found = warnings(odd)
    assert [sentence.partition(":")[0] for sentence in found] == [
        "eval_episodes", "warmup_batches", "checkpoint_every", "learning_rate"
    ]  # fmt: skip
    assert "0.12" in found[0]


def test_nothing_is_said_of_a_default_that_nobody_has_set() -> None:
    short = spec(training={"total_batches": 3, "learning_rate": 1e-3}, rollout={"max_completion_length": 6})
    assert (short.checkpoint.checkpoint_every, short.rollout.max_staleness) == (10, 1)  # both would be worth a word
    assert warnings(short) == []
    given = {"training": {"total_batches": 3, "learning_rate": 1e-3}, "checkpoint": {"checkpoint_every": 10}}
    assert [one.partition(":")[0] for one in warnings(spec(**given))] == ["checkpoint_every"]
