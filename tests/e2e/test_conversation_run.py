"""Small jobs whose policies see whole conversations, one of which calls tools, through everything that is real."""

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
from services.contracts.arrays import unpack_int32
from services.contracts.messages import Episode

pytestmark = pytest.mark.timeout(600)

ROOT = Path(__file__).parents[2]
BATCHES = 2
PLUGIN = {"ENV_SERVICE_EXTRA_ENVIRONMENTS": json.dumps({"calculator": "examples.calculator:Calculator"})}


def gigpo(folder: Path, *words: str) -> None:
    paths = {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "proto")])}
    command = [sys.executable, "-m", "gigpo.client.main", *words]
    environ = {**os.environ, **paths, **PLUGIN}
    done = subprocess.run(command, cwd=folder, env=environ, text=True, capture_output=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("conversations")
    gigpo(folder, "up", "--detach")
    try:
        yield folder
    finally:
        gigpo(folder, "down")


def trained(folder: Path, example: str, **environment: object) -> tuple[dict[str, object], list[Episode]]:
    """The summary and the trained episodes of the example, cut to seconds."""
    document = yaml.safe_load((ROOT / "examples" / f"{example}.yaml").read_text())
    document["model"]["warmstart"].update(warmstart_rows=300, warmstart_steps=60, warmstart_max_invalid=1.0)
    document["environment"].update(environment)
    document["rollout"].update(groups_per_batch=4, num_generations=4)
    document["training"].update(total_batches=BATCHES, minibatches=2)
    document["evaluation"].update(eval_episodes=8, eval_baselines=False)
    (folder / "job.yaml").write_text(yaml.safe_dump(document))
    gigpo(folder, "train", "job.yaml", "--name", example, "--engine", "transformers")
    summary = json.loads((folder / "runs" / example / "summary.json").read_text())
    assert (summary["state"], summary["batches"]) == ("SUCCEEDED", BATCHES)
    assert summary["ledger"]["opened"] == summary["ledger"]["consumed"]
    archives = (folder / "runs/.platform/jobs" / summary["job_id"] / "rollouts").glob("batch-*")
    return summary, [episode for file in archives for _, episodes in read_archive(file) for episode in episodes]


def test_a_policy_is_trained_on_the_conversations_that_it_had(folder: Path) -> None:
    """The engine's log-probabilities of every reply are the learner's, which has all of a conversation in one pass."""
    summary, episodes = trained(folder, "conversation", max_context_tokens=150, history_length=1)
    assert len(episodes) == BATCHES * 16
    assert summary["mismatch_kl_mean"] < 1e-6  # type: ignore[operator]
    steps = [step for episode in episodes for step in episode.steps]
    assert sum(step.continues for step in steps) > len(steps) / 2
    assert sum(episode.context_overflows for episode in episodes) == sum(
        not step.continues and step.step_index > 0 for step in steps
    )
    records = (folder / "runs/.platform/jobs" / str(summary["job_id"]) / "metrics.jsonl").read_text().splitlines()
    counted = sum(json.loads(line)["context_overflows"] for line in records) * 16
    assert counted == pytest.approx(sum(episode.context_overflows for episode in episodes))


def test_a_policy_calls_tools_in_its_chat_templates_format(folder: Path) -> None:
    summary, episodes = trained(folder, "calculator")
    assert summary["mismatch_kl_mean"] < 1e-6  # type: ignore[operator]
    steps = [step for episode in episodes for step in episode.steps]
    called = [json.loads(step.action) for step in steps if step.action_valid]
    assert called
    assert {call["name"] for call in called} <= {"add", "answer"}
    tool, user = 5, 3
    later = [unpack_int32(step.prompt_ids) for step in steps if step.continues]
    assert later
    assert all((tool in ids) != (user in ids) for ids in later)
