"""The API with the real environment service: the default job, and kwargs that only the environment can judge."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from tests.integration.api.api_process import ApiProcess, running_api
from tests.model_folders import write_model

ROOT = Path(__file__).parents[3]
ALLOWED, FORBIDDEN = "ws://127.0.0.1:9", "ws://127.0.0.1:10"
OF_ONES_OWN = """
import random
from gigpo.env import Environment, EnvironmentKwargs, Observation, Outcome


class Kwargs(EnvironmentKwargs):
    \"\"\"What a job can set.\"\"\"

    highest: int = 3
    endless: bool = False
    named: bool = True


class Guess(Environment):
    \"\"\"Guess a number.\"\"\"

    Kwargs = Kwargs

    def reset(self, seed, split):
        self.number = random.Random(f"{split}/{seed}").randint(1, self.kwargs.highest)
        return self.seen(f"of {split}" if not self.kwargs.endless else f"word{split}{seed}")

    def step(self, action):
        won = action == f"guess {self.number}"
        return Outcome(observation=self.seen(f"it was {self.number}"), reward=won, won=won, terminated=True)

    def seen(self, text):
        actions = tuple(f"guess {n + 1}" for n in range(self.kwargs.highest))
        return Observation(text=text, task="find it", admissible_actions=actions if self.kwargs.named else ())
"""
OPENENV = {"ENV_SERVICE_OPTIONS": json.dumps({"openenv": {"allowed": ["127.0.0.1:9"]}})}


@pytest.fixture(scope="module")
def real_env(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("environments")
    (folder / "guess_module.py").write_text(OF_ONES_OWN)
    plugins = {"guess": "guess_module:Guess", "calculator": "examples.calculator:Calculator"}
    own = {"ENV_SERVICE_EXTRA_ENVIRONMENTS": json.dumps(plugins)}
    process = subprocess.Popen(
        [sys.executable, "-m", "services.env.main"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'proto'}", "ENV_SERVICE_DRAIN_S": "0", **OPENENV, **own},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield json.loads(process.stdout.readline())["address"]
    finally:
        process.terminate()
        process.wait(20)
        process.stdout.close()


@pytest.fixture(scope="module")
def api(redis_server: str, real_env: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiProcess]:
    with running_api(tmp_path_factory.mktemp("data"), redis_server, real_env) as process:
        yield process


@pytest.fixture(scope="module")
def default() -> dict[str, object]:
    document: dict[str, object] = yaml.safe_load((ROOT / "examples" / "default.yaml").read_text())
    return document


@pytest.mark.parametrize("example", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_example_is_accepted(http: httpx.Client, example: Path) -> None:
    answer = http.post("/v1/jobs?dry_run=true", json=yaml.safe_load(example.read_text()))
    assert answer.status_code == 200, answer.text
    assert answer.json()["environment"]["vocabulary"]  # they all train a policy from scratch


def test_the_default_job_has_anchors(http: httpx.Client, default: dict[str, object]) -> None:
    answer = http.post("/v1/jobs?dry_run=true", json=default)
    assert answer.json()["environment"]["gives_anchors"] is True


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"size": [2], "walls": [3]}, "free cells"),
        ({"size": 5}, "wants list of integer"),
        ({"sise": [3]}, "sise: unknown key"),
    ],
)
def test_kwargs_that_the_environment_refuses_are_refused_at_the_door(
    http: httpx.Client, default: dict[str, object], kwargs: dict[str, object], words: str
) -> None:
    spec = {**default, "environment": {"environment": "grid", "environment_kwargs": kwargs}}
    answer = http.post("/v1/jobs", json=spec)
    assert answer.status_code == 422
    assert words in answer.json()["detail"]
    assert answer.json()["errors"][0]["field"].startswith("environment.environment_kwargs")


def test_the_single_turn_example_is_accepted_with_everything_resolved(http: httpx.Client) -> None:
    example = yaml.safe_load((ROOT / "examples" / "prompts.yaml").read_text())
    answer = http.post("/v1/jobs?dry_run=true", json=example)
    assert answer.status_code == 200, answer.text
    environment = answer.json()["spec"]["environment"]
    assert (environment["environment"], environment["max_turns"], environment["use_gym_env"]) == ("prompts", 1, False)


@pytest.mark.parametrize("dry", [True, False])
def test_what_an_environment_says_of_its_kwargs_is_a_warning_of_the_job(http: httpx.Client, dry: bool) -> None:
    example = yaml.safe_load((ROOT / "examples" / "prompts.yaml").read_text())
    rows = [{"prompt": "is 1 less than 2 ?", "solution": True}, {"prompt": "is 3 less than 2 ?", "solution": False}]
    environment = {**example["environment"], "environment_kwargs": {"rows": rows, "split_dataset_ratio": 0.5}}
    answer = http.post(f"/v1/jobs?dry_run={str(dry).lower()}", json={**example, "environment": environment})
    assert answer.is_success, answer.text
    wanted = "the solution of 2 rows is true or false, no text: want it as the reply's word"
    assert wanted in answer.json()["warnings"]


@pytest.mark.parametrize(
    ("sections", "field", "words"),
    [
        (
            {"rewards": {"reward_funcs": ["accuracy", "kindness"]}},
            "rewards.reward_funcs",
            "unknown reward function 'kindness'; known: accuracy, cosine, format",
        ),
        ({"rewards": {}}, "", "reward_funcs: want at least one"),
        (
            {"environment": {"use_gym_env": False, "prompt_template": "prompts/v9"}},
            "environment.prompt_template",
            "prompts/v1",
        ),
        ({"algorithm": {"advantage_estimator": "gigpo"}}, "", "gigpo needs use_gym_env: true"),
    ],
)
def test_a_single_turn_job_that_cannot_run_is_refused_at_the_door(
    http: httpx.Client, sections: dict[str, object], field: str, words: str
) -> None:
    example = yaml.safe_load((ROOT / "examples" / "prompts.yaml").read_text())
    answer = http.post("/v1/jobs", json={**example, **sections})
    assert answer.status_code == 422
    assert [problem["field"] for problem in answer.json()["errors"]] == [field]
    assert words in answer.json()["detail"]


@pytest.fixture
def model(tmp_path: Path) -> str:
    return str(write_model(tmp_path))


@pytest.mark.parametrize(("url", "status"), [(ALLOWED, 200), (FORBIDDEN, 422)])
def test_the_operator_decides_which_server_an_openenv_job_calls(
    http: httpx.Client, model: str, url: str, status: int
) -> None:
    environment = {"environment": "openenv", "environment_kwargs": {"url": url, "action": "message"}}
    answer = http.post("/v1/jobs?dry_run=true", json={"model": {"model": model}, "environment": environment})
    assert answer.status_code == status, answer.text
    assert ("not one of the addresses that this service may call" in answer.text) == (url == FORBIDDEN)


@pytest.mark.parametrize(
    "prompt", ["http://example.org is what?", "// is a comment in which language?", "/etc is what?"]
)
def test_a_prompt_may_begin_like_an_address(http: httpx.Client, model: str, prompt: str) -> None:
    example = yaml.safe_load((ROOT / "examples" / "prompts.yaml").read_text())
    rows = [{"prompt": prompt, "solution": "a"}, {"prompt": "two", "solution": "b"}]
    environment = {**example["environment"], "environment_kwargs": {"rows": rows}, "max_prompt_tokens": 128}
    answer = http.post("/v1/jobs?dry_run=true", json={**example, "model": {"model": model}, "environment": environment})
    assert answer.status_code == 200, answer.text


def words_of(http: httpx.Client, default: dict[str, object], **kwargs: object) -> httpx.Response:
    environment = {"environment": "guess", "environment_kwargs": kwargs}
    model = {"scratch": {}, "warmstart": {}}
    return http.post("/v1/jobs?dry_run=true", json={**default, "model": model, "environment": environment})


@pytest.mark.parametrize("highest", [3, 40])
def test_the_words_of_an_environment_without_vocabulary_are_gathered_with_the_jobs_kwargs(
    http: httpx.Client, default: dict[str, object], highest: int
) -> None:
    answer = words_of(http, default, highest=highest)
    assert answer.status_code == 200, answer.text
    numbers = {str(number + 1) for number in range(highest)}
    shown = {"of", "train", "test", "it", "was", "find", "guess"}
    assert answer.json()["environment"]["vocabulary"] == sorted(numbers | shown)
    assert answer.json()["estimates"]["parameters"] > 0


@pytest.mark.parametrize(
    ("kwargs", "words"), [({"endless": True}, "new ones never ended"), ({"named": False}, "no admissible actions")]
)
def test_an_environment_whose_words_cannot_be_gathered_is_refused_with_what_to_do(
    http: httpx.Client, default: dict[str, object], kwargs: dict[str, object], words: str
) -> None:
    answer = words_of(http, default, **kwargs)
    assert answer.status_code == 422, answer.text
    (problem,) = answer.json()["errors"]
    assert problem["field"] == "model.scratch"
    assert words in problem["message"]
    assert problem["message"].endswith("Add vocabulary() to its class, or give the job a `model`")


def test_the_words_of_a_practice_mode_are_gathered_too(http: httpx.Client, default: dict[str, object]) -> None:
    model = {"scratch": {}, "warmstart": {"warmstart_environment_kwargs": {"highest": 7}}}
    spec = {**default, "model": model, "environment": {"environment": "guess"}}
    answer = http.post("/v1/jobs?dry_run=true", json=spec)
    assert answer.status_code == 200, answer.text
    assert "7" in answer.json()["environment"]["vocabulary"]
