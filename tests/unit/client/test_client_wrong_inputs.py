"""Wrong job files and calls: each gets one sentence that names the place, what came and what is wanted."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from tests.unit.client.fake_api import FakeApi, Gigpo

GOOD = "rollout: {max_completion_length: 8}\n"
SCRATCH = "model: {scratch: {}}\n" + GOOD
FILES = {
    "only a comment": ("# nothing yet\n", "job.yaml: want a mapping of sections such as model and environment,"
                        " got nothing"),
    "a list of jobs": ("- model: a\n- model: b\n", "job.yaml: want a mapping of sections such as model and"
                        " environment"),
    "two documents": (SCRATCH + "---\n" + SCRATCH, "job.yaml: not valid YAML: line 3, column 1: "),
    "a colon too few": ("model\n  scratch: {}\n", "job.yaml: not valid YAML: line 2, column "),
    "an anchor that is nowhere": ("model: *small\n", "job.yaml: not valid YAML: line 1, column 8: "),
    "a section twice": (SCRATCH + "model: m\n", "job.yaml: line 3: the key 'model' repeats the one on line 1;"
                        " want it once"),
    "an unset variable": ("model: ${WHERE_IS_IT}\n", "job.yaml: line 1: WHERE_IS_IT is not set; set it, or give"
                        " a default"),
    "no model": (GOOD, "model: want a value, none is given"),
    "two models": ("model: {model: /m, scratch: {}}\n" + GOOD, "model: want exactly one of `model`"),
    "a number as model": ("model: 7\n" + GOOD, "model: want a mapping of keys to values, got 7"),
    "a section that is text": (SCRATCH + "training: fast\n", "training: want a mapping of keys to values, got 'fast'"),
    "another's section": (SCRATCH + "trainer: {}\n", "trainer: unknown key, got {}; did you mean training?"),
    "another's name": (SCRATCH + "training: {warmup_ratio: 0.1}\n", "training.warmup_ratio: unknown key, got 0.1; here "
                       "training.warmup_batches, a number of batches, not a share"),
    "a key in the wrong section": (SCRATCH + "training: {gamma: 0.9}\n", "training.gamma: unknown key, got 0.9;"
                        " did you "
                                   "mean algorithm.gamma?"),
    "the environment's id": (SCRATCH + "environment: {id: grid}\n", "environment.id: unknown key, got 'grid';"
                        " did you mean "
                             "environment.environment?"),
    "a misspelt environment": (SCRATCH + "environment: gird\n", "environment.environment: unknown environment"
                        " 'gird', known: "
                               "alfworld, "),
    "a misspelt kwarg": (SCRATCH + "environment: {environment_kwargs: {sizes: [3]}}\n",
                         "environment.environment_kwargs.sizes: unknown key of environment grid, known: "),
    "a kwarg of another kind": (SCRATCH + "environment: {environment_kwargs: {size: 2}}\n",
                                "environment.environment_kwargs.size: environment grid wants list of integer"
                        " from 2 to 9, got 2"),
    "a kwarg out of range": (SCRATCH + "environment: {environment_kwargs: {size: [99]}}\n",
                             "environment.environment_kwargs.size.0: environment grid wants integer from 2 to"
                        " 9, got 99"),
    "a switch that is none": (SCRATCH + "algorithm: {dynamic_sample: sometimes}\n",
                              "algorithm.dynamic_sample: want true or false, got 'sometimes'"),
    "a share as a percentage": (SCRATCH + "training: {lr_end_ratio: 10%}\n",
                                "training.lr_end_ratio: want a number, got '10%'"),
    "half a batch": (SCRATCH + "rollout: {groups_per_batch: 0.5}\n".replace("rollout", "training"),
                     "training.groups_per_batch: unknown key, got 0.5; did you mean rollout.groups_per_batch?"),
    "a name with capitals": (SCRATCH + "name: My Job\n", "name: want a name of 1 to 63 small letters a-z,"
                        " digits, dots, "),
    "a date as name": (SCRATCH + "name: 2026-11-29\n", "name: want text, got 2026-11-29"),
    "a path that is empty": ("model: {model: ''}\n" + GOOD, "model: want a folder in Hugging Face format, got ''"),
    "an address as model": ("model: http://example.org/m\n" + GOOD, "model.model: want a folder in Hugging Face format,"
                            " got the address http://example.org/m; bring its files here first"),
    "the job file as model": ("model: ./job.yaml\n" + GOOD, "model.model: want a folder, got the file job.yaml"),
    "text alone": ("just words\n", "job.yaml: want a mapping of sections such as model and environment, got text"),
    "a number alone": ("7\n", "job.yaml: want a mapping of sections such as model and environment, got a number"),
    "no end": ("# " + "x" * (4 << 20), "job.yaml: want a text of at most 4 MiB, got a longer one"),
    "a function of a table": (SCRATCH + "rewards: {reward_funcs: ['good.csv:score']}\n", "rewards.reward_funcs: want "
                              "FILE.py:FUNCTION, or the name of a function, got 'good.csv:score'"),
    "a function of no file": (SCRATCH + "rewards: {reward_funcs: [':score']}\n", "rewards.reward_funcs: want "
                              "FILE.py:FUNCTION, or the name of a function, got ':score'"),
    "a function of a function": (SCRATCH + "rewards: {reward_funcs: ['r.py:a:b']}\n", "rewards.reward_funcs: want "
                                 "FILE.py:FUNCTION, or the name of a function, got 'r.py:a:b'"),
    "a file without its function": (SCRATCH + "rewards: {reward_funcs: r.py}\n", "rewards.reward_funcs: want the"
                                    " function too, r.py:FUNCTION"),
    "a reward file that is nowhere": (SCRATCH + "rewards: {reward_funcs: ['r.py:score']}\n", "rewards.reward_funcs: no"
                                      " such file: r.py"),
    "data that is nowhere": (SCRATCH + "environment: {environment_kwargs: {data: ./no.jsonl}}\n",
                             "environment.environment_kwargs.data: no such file: ./no.jsonl"),
    "a seed below 0": (SCRATCH + "training: {seed: -1}\n", "training.seed: want a number >= 0, got -1"),
    "a seed beyond 31 bits": (SCRATCH + "training: {seed: 99999999999}\n", "training.seed: want a number < 2147483648,"
                              " got 99999999999"),
    "a rate that rounds to 0": (SCRATCH + "training: {learning_rate: 1.0e-400}\n", "training.learning_rate: want a"
                                " number > 0, got "),
    "weights without functions": (SCRATCH + "rewards: {reward_weights: 1 2}\n", "rewards: reward_weights: want"
                        " 0, one per "),
}  # fmt: skip
CALLS = {
    "a file that is a folder": ("train folder", "folder: cannot be read: Is a directory"),
    "a value that is no number": ("train job.yaml --seed seven", "training.seed: want a whole number, got 'seven'"),
    "hydra's spelling": ("train job.yaml rollout.temperature=0.7", "rollout.temperature=0.7: want --temperature 0.7;"),
    "an estimator that is none": ("compare job.yaml --estimators gigpo,ppo", "--estimators: want some of "),
    "a budget that no job is measured near": (
        "compare job.yaml --equal tokens",
        "--equal tokens: want --eval_every above 0, best a tenth of total_batches or less, got 0",
    ),
    "a budget that is none": ("compare job.yaml --equal hours", "--equal: "),
    "a flag without a value": ("train job.yaml --gamma", "--gamma: want a value after it, none is given;"),
    "a trainer that is not read": ("train --from openrlhf run.sh", "--from: want one of ms-swift, verl-agent,"
                        " got 'openrlhf'"),
    "a command of another tool": ("sft --model m", "sft is not a command; want `gigpo warmstart`"),
    "a change that is none": ("jobs fork j1 --set gama=0.9", "--set gama: unknown key; did you mean gamma?"),
    "an empty dataset": ("train job.yaml --dataset ''", "--dataset: want a file or a folder, got ''"),
    "a key without a value": ("train job.yaml --environment_kwargs.size", "--environment_kwargs.size: want a value"
                              " after it, none is given"),
    "a list as kwargs": ("train job.yaml --environment_kwargs [1]", "environment.environment_kwargs: want a mapping of"
                         " keys to values, got [1]"),
    "a key twice in a flag": ("train job.yaml --environment_kwargs '{size: [3], size: [4]}'", "--environment_kwargs:"
                              " line 1: the key 'size' repeats the one on line 1; want it once"),
    "two job files": ("train job.yaml other.yaml", "want no further arguments, got other.yaml;"),
    "an empty name": ("train job.yaml --name ''", "name: want a name of 1 to 63 small letters a-z, digits, dots,"),
    "half a reference": ("train job.yaml --model job:", "model.model: want job:<job id>/<checkpoint>, got 'job:'"),
    "a script that never ends": ("train --from ms-swift /dev/zero", "/dev/zero: want a text of at most 4 MiB, got a"
                                 " longer one"),
    "a script that is nowhere": ("train --from ms-swift no.sh", "no.sh: cannot be read: No such file or directory"),
    "a script that is a folder": ("train --from verl-agent folder", "folder: cannot be read: Is a directory"),
    "an address of files": ("jobs list --api ftp://x", "want the address of an API such as http://127.0.0.1:8400, got"
                            " 'ftp://x'"),
    "an address without http": ("jobs list --api localhost:8400", "want the address of an API such as "
                                "http://127.0.0.1:8400, got 'localhost:8400'"),
    "an address without a host": ("jobs list --api http://", "want the address of an API such as "
                                  "http://127.0.0.1:8400, got 'http://'"),
    "an address of half a host": ("jobs list --api http://[::1", "want the address of an API such as "
                                  "http://127.0.0.1:8400, got 'http://[::1'"),
    "a port that is none": ("jobs list --api http://127.0.0.1:99999", "want the address of an API such as "
                            "http://127.0.0.1:8400, got 'http://127.0.0.1:99999'"),
    "an empty address": ("jobs list --api ''", "want the address of an API such as http://127.0.0.1:8400, got ''"),
    "a broken mapping": ("train job.yaml --environment_kwargs {size", "--environment_kwargs: want a value in"
                        " YAML or JSON, got "),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_a_wrong_file_gets_one_sentence(
    fake_api: FakeApi, gigpo: Gigpo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.delenv("GIGPO_API_URL")
    text, said = FILES[name]
    (tmp_path / "job.yaml").write_text(text)
    done = gigpo("train", "job.yaml", "--dry-run")
    assert (done.code, done.out, done.err.count("\n"), fake_api.requests) == (2, "", 1, []), done.err
    assert done.err.startswith(f"gigpo: {said}")


@pytest.mark.parametrize("name", CALLS)
def test_a_wrong_call_gets_one_sentence(fake_api: FakeApi, gigpo: Gigpo, tmp_path: Path, name: str) -> None:
    typed, said = CALLS[name]
    fake_api.has()
    (tmp_path / "job.yaml").write_text(SCRATCH)
    (tmp_path / "folder").mkdir()
    done = gigpo(*shlex.split(typed))
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1), done.err
    assert done.err.startswith(f"gigpo: {said}")
