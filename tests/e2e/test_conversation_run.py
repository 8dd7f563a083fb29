"""Small jobs through everything that is real: conversations, tool calls, a mixture of environments."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import yaml

from examples.outside_agent import play_until_the_end
from gigpo.client.stack import running_stack
from services.contracts.archive import read_archive
from services.contracts.arrays import unpack_int32
from services.contracts.messages import Episode

pytestmark = pytest.mark.timeout(600)

ROOT = Path(__file__).parents[2]
BATCHES = 2
PLUGIN = {"ENV_SERVICE_EXTRA_ENVIRONMENTS": json.dumps({"calculator": "examples.calculator:Calculator"})}


def gigpo(folder: Path, *words: str) -> str:
    paths = {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "proto")])}
    command = [sys.executable, "-m", "gigpo.client.main", *words]
    environ = {**os.environ, **paths, **PLUGIN}
    done = subprocess.run(command, cwd=folder, env=environ, text=True, capture_output=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


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


def test_agents_of_somebody_else_play_a_job_and_what_they_caused_is_trained(folder: Path) -> None:
    """The engine's log-probabilities are the learner's, over rows that go on and rows that begin anew."""
    document = yaml.safe_load((ROOT / "examples" / "outside.yaml").read_text())
    document["model"]["warmstart"].update(warmstart_rows=200, warmstart_steps=40, warmstart_max_invalid=1.0)
    document["rollout"].update(groups_per_batch=2, num_generations=2)
    document["training"].update(total_batches=1, minibatches=1)
    document["evaluation"].update(eval_episodes=2)
    document["inference"] = {"engine": "transformers"}
    url = running_stack(folder / "runs").api_url  # type: ignore[union-attr]
    with httpx.Client(base_url=url, timeout=60) as http:
        job = http.post("/v1/jobs", json=document).raise_for_status().json()["id"]
        with ThreadPoolExecutor(4) as agents:
            played = [one.result(500) for one in [agents.submit(play_until_the_end, url, job) for _ in range(4)]]
        ended = http.get(f"/v1/jobs/{job}").json()
        assert ended["state"] == "SUCCEEDED", ended["error"]
        summary = http.get(f"/v1/jobs/{job}/summary").json()
    assert sum(played) == 4 + 2 * 2
    assert summary["mismatch_kl_mean"] < 1e-6
    files = (folder / "runs/.platform/jobs" / job / "rollouts").glob("batch-*")
    steps = [step for file in files for _, episodes in read_archive(file) for one in episodes for step in one.steps]
    assert any(step.continues for step in steps)
    assert all(step.response_ids for step in steps)  # a reply may be empty, and so its action


def test_a_mixture_trains_and_measures_each_member(folder: Path) -> None:
    document = yaml.safe_load((ROOT / "examples" / "mixture.yaml").read_text())
    boxes = {"member": "boxes", "environment": "sokoban", "weight": 3, "max_turns": 4, "environment_kwargs": {}}
    members = [*document["environment"]["mixture"], boxes]
    summary, episodes = trained(folder, "mixture", mixture=members)
    (before, after) = summary["evaluations"]  # type: ignore[misc]
    names = [one["member"] for one in members]
    for evaluated in (before, after):
        assert [*evaluated["members"]] == names
        assert [one["episodes"] for one in evaluated["members"].values()] == [8, 8, 8]
        assert evaluated["episodes"] == 24
        assert evaluated["success"] == pytest.approx(sum(one["success"] for one in evaluated["members"].values()) / 3)
    panels = {name: before["members"][name]["panel"] for name in names}
    assert panels == {name: after["members"][name]["panel"] for name in names}
    assert len({*panels.values()}) == 3
    lines = (folder / "runs" / "mixture" / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert len(episodes) == BATCHES * 16
    for record in records:
        assert sum(record.get(f"episodes/{name}", 0) for name in names) == record["episodes"] == 16
    tasks = {(one.group_id, one.task) for one in episodes}
    assert len(tasks) == len({one.group_id for one in episodes}), "a group is of one member"
    found = json.loads(gigpo(folder, "eval", "run", "mixture", "--member", "near", "--json"))
    assert (found["result"]["panel"], found["result"]["members"]) == (panels["near"], {})
