"""A small single-turn job through everything that is real, with the engine that needs no installation of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from services.contracts.archive import read_archive
from services.contracts.guidance import unpack_allowed
from services.ledger import DropReason

pytestmark = pytest.mark.timeout(600)

ROOT = Path(__file__).parents[2]
BATCHES = 2


class Folder:
    """Where the stack and its results live."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def gigpo(self, *words: str, code: int = 0) -> str:
        paths = os.pathsep.join([str(ROOT), str(ROOT / "proto")])
        command = [sys.executable, "-m", "gigpo.client.main", *words]
        done = subprocess.run(
            command, cwd=self.path, env={**os.environ, "PYTHONPATH": paths}, text=True, capture_output=True, timeout=500
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def write(self, name: str, **sections: dict[str, object]) -> None:
        """The example, cut to seconds, with some sections' keys replaced."""
        document = yaml.safe_load((ROOT / "examples" / "prompts.yaml").read_text())
        document["model"]["warmstart"].update(warmstart_rows=300, warmstart_steps=40, warmstart_max_invalid=1.0)
        document["rollout"].update(groups_per_batch=4, num_generations=4)
        document["training"].update(total_batches=BATCHES, minibatches=1)
        document["evaluation"].update(eval_episodes=8, eval_baselines=False)
        for section, keys in sections.items():
            document.setdefault(section, {}).update(keys)
        (self.path / name).write_text(yaml.safe_dump(document))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Folder]:
    folder = Folder(tmp_path_factory.mktemp("single-turn"))
    folder.gigpo("up", "--detach")
    try:
        yield folder
    finally:
        folder.gigpo("down")


TRUNCATED = {"top_k": 6, "top_p": 0.95, "stop_words": ["1"]}


@pytest.mark.parametrize(("estimator", "rollout"), [("grpo", {}), ("rloo", TRUNCATED)])
def test_a_single_turn_job_trains_on_its_weighted_reward_functions(
    folder: Folder, estimator: str, rollout: dict[str, object]
) -> None:
    rewards = {"reward_funcs": ["accuracy", "soft_overlong"], "reward_weights": [1.0, 0.5], "soft_cache_length": 3}
    folder.write("job.yaml", rewards=rewards, algorithm={"advantage_estimator": estimator}, rollout=rollout)
    folder.gigpo("train", "job.yaml", "--name", estimator, "--engine", "transformers")
    results = folder.path / "runs" / estimator
    summary = json.loads((results / "summary.json").read_text())
    assert (summary["state"], summary["advantage_estimator"], summary["batches"]) == ("SUCCEEDED", estimator, BATCHES)
    assert summary["ledger"]["opened"] == summary["ledger"]["consumed"]
    assert sum(summary["ledger"]["dropped"].values()) == 0
    assert summary["env_steps"] == BATCHES * 16
    assert [one["length_mean"] for one in summary["evaluations"]] == [1.0, 1.0]
    archives = (folder.path / "runs/.platform/jobs" / summary["job_id"] / "rollouts").glob("batch-*")
    steps = [step for file in archives for _, episodes in read_archive(file) for one in episodes for step in one.steps]
    assert len(steps) == BATCHES * 16
    for step in steps:
        assert (len(step.kept) > 0) == bool(rollout)
        assert all(len(ids) <= 6 for ids in unpack_allowed(step.kept, len(step.response_ids) // 4 if rollout else 0))
        right, overlong = step.rewards
        assert right in (0.0, 1.0)
        assert overlong == pytest.approx(-min(len(step.response_ids) // 4 / 3, 1.0))
        assert step.reward == right + 0.5 * overlong
    records = [json.loads(line) for line in (results / "metrics.jsonl").read_text().splitlines()]
    assert "Time of each batch" in (results / "report.html").read_text()
    for record in records:
        assert record.get("current_mismatch_kl", 0.0) < 1e-6  # the loss is over what could be sampled
        assert 0 <= record["idle_share"] < 1
        assert record["slowest_turns"] == 1
        weighed = record["reward_accuracy"] + 0.5 * record["reward_soft_overlong"]
        assert record["return_mean"] == pytest.approx(weighed)
        assert record["reward_accuracy"] == record["success"]


def test_rows_of_ones_own_train_a_given_model_and_a_baseline_that_cannot_be_had_is_left_out(folder: Folder) -> None:
    rows = [{"prompt": f"{a} larger {b}", "solution": max(a, b)} for a in range(4) for b in range(4)]
    environment = {"environment_kwargs": {"rows": rows}}
    folder.write("rows.yaml", environment=environment, evaluation={"eval_baselines": True})
    model = str(folder.path / "runs" / "grpo" / "checkpoint")
    said = folder.gigpo("train", "rows.yaml", "--model", model, "--name", "rows", "--engine", "transformers")
    cause = "actor random: the environment names no admissible actions"
    left_out = f"evaluation random_actor: none of 8 episodes could be played: {cause}; this baseline is left out"
    assert left_out in " ".join(said.split())
    summary = json.loads((folder.path / "runs" / "rows" / "summary.json").read_text())
    assert summary["state"] == "SUCCEEDED"
    assert [one["label"] for one in summary["evaluations"]] == ["before", "after", "task_hidden", "task_shuffled"]
    assert summary["ledger"]["dropped"] == {reason: int(reason == "unplayable") for reason in DropReason}


def test_gigpo_without_an_environment_of_many_turns_is_refused_in_one_sentence(folder: Folder) -> None:
    folder.write("gigpo.yaml")
    said = folder.gigpo("train", "gigpo.yaml", "--advantage_estimator", "gigpo", code=2)
    assert "gigpo needs use_gym_env: true" in said
    assert "Traceback" not in said


def test_own_prompts_and_an_own_reward_are_trained_from_scratch(folder: Folder) -> None:
    rows = [{"prompt": f"say word{number} now", "word": f"word{number}"} for number in range(10)]
    (folder.path / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder.path / "my_reward.py").write_text(
        "def score(completion):\n    return float(completion.row['word'] in completion.text.split())\n"
    )
    words = ["--environment", "prompts", "--dataset", "mine.jsonl", "--engine", "transformers", "--total_batches", "1",
             "--groups_per_batch", "2", "--minibatches", "1", "--eval_episodes", "4", "--name", "own"]  # fmt: skip
    folder.gigpo("train", *words, "--reward_funcs", "my_reward.py:score")
    results = folder.path / "runs" / "own"
    (row,) = [json.loads(line) for line in (results / "metrics.jsonl").read_text().splitlines()]
    assert 0.0 <= row["reward_my_reward.score"] <= 1.0
    tokenizer = json.loads((results / "checkpoint" / "tokenizer.json").read_text())
    assert {"say", "now", "word0", "word9"} <= tokenizer["model"]["vocab"].keys()
    again = yaml.safe_load((results / "spec.yaml").read_text())
    (folder.path / "my_reward.py").write_text("def score(completion):\n    return None\n")
    (folder.path / "again.yaml").write_text(yaml.safe_dump(again))
    folder.gigpo("train", "--dry-run", "again.yaml")  # it names the file by its content, and that is kept
    said = folder.gigpo("train", *words, "--reward_funcs", "my_reward.py:score", code=2)
    assert said.endswith(
        "gigpo: rewards.reward_funcs: my_reward.py:score returns nothing, want a number, or None where it abstains\n"
    )
