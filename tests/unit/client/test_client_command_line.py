"""The command line itself: spellings that are understood, help that can be read, and what is said of the rest."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import typer

from gigpo.client.job_command import _rewritten, _with_inner_names, _without_inner
from gigpo.client.main import app
from services.contracts.job import flags
from tests.unit.client.fake_api import FakeApi, Gigpo

JOB = "model: {scratch: {}}\nenvironment: grid\nrollout: {max_completion_length: 6}\n"


@pytest.fixture(autouse=True)
def job_file(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text(JOB)


@pytest.mark.parametrize(
    ("typed", "known"),
    [
        ("--learning-rate 1e-4", "--learning_rate 1e-4"),
        ("--learning-rate=1e-4", "--learning_rate=1e-4"),
        ("--dry-run --num-generations 4", "--dry-run --num_generations 4"),
        ("--dynamic_sample", "--dynamic_sample true"),
        ("--dynamic_sample --seed 1", "--dynamic_sample true --seed 1"),
        ("--dynamic_sample false", "--dynamic_sample false"),
        ("--trackers wandb", "--trackers wandb"),
        ("--reward_funcs accuracy,format job.yaml", "--reward_funcs accuracy,format job.yaml"),
        ("--save_total_limit 3 --gym_env grid", "--checkpoint_keep 3 --environment grid"),
        ("job.yaml -- --reward_funcs a b", "job.yaml -- --reward_funcs a b"),
    ],
)
def test_a_spelling_is_brought_into_the_one_form(typed: str, known: str) -> None:
    assert list(_rewritten(typed.split())) == known.split()


@pytest.mark.parametrize(
    ("typed", "known"),
    [
        ("--enable_thinking false --seed 1", ["chat_template_kwargs.enable_thinking=false"]),
        ("--enable-thinking=false", ["chat_template_kwargs.enable_thinking=false"]),
        ("--enable_thinking", ["chat_template_kwargs.enable_thinking=true"]),
        ("--enable_thinking --seed 1", ["chat_template_kwargs.enable_thinking=true"]),
        (
            "--preserve_thinking true --chat_template_kwargs.x 3",
            ["chat_template_kwargs.preserve_thinking=true", "chat_template_kwargs.x=3"],
        ),
        ("--seed 1", []),
    ],
)
def test_a_foreign_name_of_a_key_inside_a_mapping_is_brought_into_its_form(typed: str, known: list[str]) -> None:
    _, inner = _without_inner(list(_with_inner_names(typed.split())))
    assert inner[1::2] == known


@pytest.mark.parametrize(
    ("typed", "values"),
    [
        ("--reward_funcs accuracy format", ["accuracy", "format"]),
        ("--reward_funcs accuracy format job.yaml", ["accuracy", "format"]),
        ("--reward_funcs accuracy format --seed 1", ["accuracy", "format"]),
        ("--reward_weights 1 -0.5 -.5", ["1", "-0.5", "-.5"]),
    ],
)
def test_several_values_after_a_flag_are_a_list(typed: str, values: list[str]) -> None:
    flag, given, *_ = _rewritten(typed.split())
    assert (flag, json.loads(given)) == (typed.split()[0], values)


def sent(api: FakeApi) -> Any:
    return json.loads(api.requests[-1].content)


def test_other_trainers_habits_reach_the_job(fake_api: FakeApi, gigpo: Gigpo) -> None:
    fake_api.answers["POST /v1/jobs"] = {"spec": {}, "estimates": {}, "warnings": []}
    done = gigpo(
        "train", "job.yaml", "--dry-run", "--model", "job:j9/final", "--use-gym-env", "false",
        "--environment", "prompts", "--max-turns", "1", "--reward_funcs", "accuracy", "format", 
        "--reward-weights", "1", "0.5", "--lr", "1e-5",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert sent(fake_api)["rewards"] == {"reward_funcs": ["accuracy", "format"], "reward_weights": [1.0, 0.5]}
    assert sent(fake_api)["training"] == {"learning_rate": 1e-5}
    assert gigpo("train", "job.yaml", "--dry_run", "--dynamic_sample").code == 0
    assert sent(fake_api)["algorithm"] == {"dynamic_sample": True}


def test_one_key_inside_a_mapping_is_changed(fake_api: FakeApi, gigpo: Gigpo, tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text(JOB.replace("grid", "{environment_kwargs: {size: [3], walls: [0]}}"))
    fake_api.answers["POST /v1/jobs"] = {"spec": {}, "estimates": {}, "warnings": []}
    done = gigpo(
        "train", "job.yaml", "--dry-run", "--environment-kwargs.size", "[5]", "--environment_kwargs.goal=corner"
    )
    assert done.code == 0, done.err
    assert sent(fake_api)["environment"] == {"environment_kwargs": {"size": [5], "walls": [0], "goal": "corner"}}
    assert gigpo("train", "job.yaml", "--environment_kwargs.size").err == (
        "gigpo: --environment_kwargs.size: want a value after it, none is given\n"
    )
    assert "--model.x: unknown flag" in gigpo("train", "job.yaml", "--model.x", "1").err


def test_all_unknown_flags_are_in_one_message_each_with_the_right_one(fake_api: FakeApi, gigpo: Gigpo) -> None:
    done = gigpo(
        "train",
        "--rlhf-type",
        "grpo",
        "--save_steps=5",
        "--load_in_4bit",
        "true",
        "--gama",
        "1",
        "--zzz",
        "--seed",
        "1",
    )
    assert (done.code, done.out, fake_api.requests) == (2, "", [])
    assert done.err.splitlines() == [
        "gigpo: 5 flags are unknown here:",
        "  --rlhf-type: here --advantage_estimator, of grpo, rloo, reinforce_plus_plus, gigpo, hgpo, graphgpo, gagpo, "
        "g2po",
        "  --save_steps: here --checkpoint_every, which counts batches, not optimizer steps",
        "  --load_in_4bit: there is no quantised training; --tuner_type lora with --torch_dtype bfloat16 needs the "
        "least memory",
        "  --gama: unknown flag; did you mean --gamma?",
        "  --zzz: unknown flag",
        "`gigpo train --from ms-swift SCRIPT` makes a job file of a whole script; "
        "`gigpo train --help` lists what there is",
    ]


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("train --gama 1", "--gama: unknown flag; did you mean --gamma? `gigpo train --help`"),
        ("train training.total_batches=3", "training.total_batches=3: want --total_batches 3; `gigpo train --help`"),
        ("train job.yaml seed=3", "seed=3: want --seed 3;"),
        (
            "train +algorithm.gigpo.mode=mean_norm",
            "+algorithm.gigpo.mode=mean_norm: here --norm, where mean_norm is mean",
        ),
        ("train what=ever", "what=ever: unknown key; flags are written --KEY VALUE"),
        ("train --seed", "--seed: want a value after it, none is given; `gigpo train --help`"),
        ("train job.yaml other.yaml", "want no further arguments, got other.yaml;"),
        ("jobs list --limit 0", "--limit: want a number >= 1, got '0'; `gigpo jobs list --help`"),
        ("jobs list --limit many", "--limit: want a whole number, got 'many'"),
        ("jobs list --stat RUNNING", "--stat: unknown flag; did you mean --state? `gigpo jobs list --help`"),
        ("jobs shw", "shw is not a command; want one of archive, cancel, delete, "),
        ("jobs show", "JOB: want a value, none is given; `gigpo jobs show --help`"),
        ("rlhf --rlhf_type grpo", "rlhf is not a command; want `gigpo train`; `gigpo train --from ms-swift"),
        ("trian", "trian is not a command; want one of "),
        ("--use_gym_env true", "--use_gym_env: want a command before it, such as `gigpo train`; `gigpo train --help`"),
        ("compare --threshold 3", "--threshold: want a number <= 1, got '3'; `gigpo compare --help`"),
    ],
)
def test_a_wrong_call_gets_one_sentence(fake_api: FakeApi, gigpo: Gigpo, typed: str, said: str) -> None:
    done = gigpo(*typed.split())
    assert (done.code, done.out, done.err.count("\n"), fake_api.requests) == (2, "", 1, [])
    assert done.err.startswith(f"gigpo: {said}")


def test_the_version_and_short_help_are_everywhere(gigpo: Gigpo) -> None:
    assert gigpo("--version").out.startswith("gigpo 0")
    for command in (("-h",), ("train", "-h"), ("jobs", "-h"), ("jobs", "list", "-h")):
        done = gigpo(*command)
        assert (done.code, "Usage: gigpo" in done.out) == (0, True)


def commands(command: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    inner = getattr(command, "commands", None)
    return [path] if inner is None else [one for name in inner for one in commands(inner[name], (*path, name))]


@pytest.mark.parametrize("path", commands(typer.main.get_command(app)), ids=" ".join)
def test_every_command_says_what_it_lacks_in_one_sentence(
    fake_api: FakeApi, gigpo: Gigpo, path: tuple[str, ...]
) -> None:
    unknown = gigpo(*path, "--no-such-flag")
    assert (unknown.code, unknown.out) == (2, "")
    assert unknown.err == f"gigpo: --no-such-flag: unknown flag; `gigpo {' '.join(path)} --help` lists what there is\n"
    command = typer.main.get_command(app)
    for word in path:
        command = command.commands[word]  # type: ignore[attr-defined]
    if any(one.required for one in command.params):
        lacking = gigpo(*path)
        assert (lacking.code, lacking.out, lacking.err.count("\n")) == (2, "", 1)
        assert ": want a value, none is given; `gigpo " in lacking.err


@pytest.mark.parametrize("width", [80, 100])
@pytest.mark.parametrize("path", commands(typer.main.get_command(app)), ids=" ".join)
def test_no_flag_is_cut_in_a_help(
    gigpo: Gigpo, monkeypatch: pytest.MonkeyPatch, path: tuple[str, ...], width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    shown = gigpo(*path, "--help").out
    command = typer.main.get_command(app)
    for word in path:
        command = command.commands[word]  # type: ignore[attr-defined]
    names = [name for one in command.params for name in one.opts if not one.hidden and name[:2] == "--"]
    assert [name for name in names if name not in shown] == []


def begun_too_early(text: str, width: int) -> list[str]:
    """Lines of the sentences above the first panel whose first word had room on the line before."""
    lines = [line.strip() for line in text.split("╭")[0].split("Arguments and options")[0].splitlines()]
    said = [(one, other) for one, other in pairwise(lines) if one and other and not other.startswith("gigpo ")]
    return [other for one, other in said if len(one) + len(other.split()[0]) + 5 <= width]


@pytest.mark.parametrize("path", ["up", "doctor", "env new", "jobs delete", "changed", "train"])
def test_the_sentences_of_a_help_fill_their_lines(gigpo: Gigpo, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    assert begun_too_early(gigpo(*path.split(), "--help").out, 100) == []


@pytest.mark.parametrize("width", [80, 100])
def test_the_keys_help_says_all_and_breaks_no_word(gigpo: Gigpo, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    lines = gigpo("train", "--help").out.splitlines()
    assert [line for line in lines if len(line) > width and "gigpo train --" not in line] == []  # commands stay whole
    text = " ".join(" ".join(lines).split())
    for name in flags():
        assert re.search(rf" --{name} [^ ]", text), name
    for words in (
        "grpo | rloo | reinforce_plus_plus | gigpo | hgpo | graphgpo | gagpo | g2po"
        if width == 80
        else "--advantage_estimator grpo|rloo|reinforce_plus_plus|gigpo|hgpo|graphgpo|gagpo|g2po",
        "(the default job has 0.002, a file without it 1e-06)",
        "(the default job has gigpo, a file without it grpo)",
        "leaves the job running",
    ):
        assert words in text, words
