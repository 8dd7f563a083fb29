"""`gigpo jobs`, `eval`, `rollouts`: what each command asks for, what it shows, and how it ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.unit.client.both_clients import problem
from tests.unit.client.fake_api import FakeApi, Gigpo, evaluation, evaluation_job, job


def test_jobs_are_listed_one_a_row(fake_api: FakeApi, gigpo: Gigpo) -> None:
    running = job(id="j2", name="demo", phase="training", metrics={"batch": 0, "success": 0.12345})
    fake_api.has(running, job(id="j1", state="PENDING", kind="evaluation"))
    assert gigpo("jobs", "list").rows == [
        ["id", "name", "kind", "state", "phase", "environment", "estimator", "seed", "batch", "success"],
        ["j2", "demo", "training", "RUNNING", "training", "grid", "gigpo", "0", "1/3", "0.1235"],
        ["j1", "–", "evaluation", "PENDING", "–", "grid", "gigpo", "0", "0/3", "–"],
    ]
    shown = gigpo("jobs", "list", "--json")
    assert [(one["id"], one["spec"]) for one in shown.document] == [("j2", None), ("j1", None)]
    assert shown.err == ""


def test_every_filter_of_the_list_is_sent(fake_api: FakeApi, gigpo: Gigpo) -> None:
    fake_api.has(job())
    filters = ("--state", "running", "--name", "demo", "--environment", "grid", "--advantage_estimator", "rloo")
    dates = ("--since", "2026-11-25T00:00:00+00:00", "--until", "2026-11-26T00:00:00+00:00")
    assert gigpo("jobs", "list", *filters, "--kind", "training", "--parent", "j1", "--limit", "7", *dates).code == 0
    assert fake_api.query() == {
        "state": "RUNNING",
        "name": "demo",
        "environment": "grid",
        "advantage_estimator": "rloo",
        "kind": "training",
        "parent_job": "j1",
        "created_after": "1795564800.0",
        "created_before": "1795651200.0",
        "limit": "7",
    }
    gigpo("jobs", "list")
    assert fake_api.query() == {"limit": "20"}
    wrong = gigpo("jobs", "list", "--since", "yesterday")
    assert (wrong.code, wrong.err) == (
        2,
        "gigpo: --since: want a time such as 2h, 3d or 2026-11-25T08:00, got 'yesterday'\n",
    )


def test_one_job_is_shown_field_by_field(fake_api: FakeApi, gigpo: Gigpo) -> None:
    fake_api.has(job(name="demo", error="no [b] memory", metrics={"success": 0.25}, spec={"model": {"scratch": {}}}))
    shown = gigpo("jobs", "show", "j1")
    fields = dict(line.split(maxsplit=1) for line in shown.out.splitlines())
    assert (fields["state"], fields["error"], fields["success"]) == ("RUNNING", "no [b] memory", "0.25")
    assert fields["created"].endswith(":01")
    assert not {"spec", "metrics", "phase", "finished", "project_id", "origin"} & set(fields)
    assert gigpo("jobs", "show", "j1", "--json").document["spec"] == {"model": {"scratch": {}}}


def test_logs_leave_out_a_line_that_is_said_twice(fake_api: FakeApi, gigpo: Gigpo) -> None:
    fake_api.has(job(state="SUCCEEDED"))
    fake_api.says(
        "j1",
        ("state", {"state": "RUNNING"}),
        ("state", {"state": "RUNNING"}),
        ("phase", {"phase": "evaluation", "label": "before"}),
        ("metrics", {"batch": 1, "success": 0.5}),
        ("evaluation", evaluation("after", 0.5)),
        ("checkpoint", {"name": "b000002"}),
        ("warning", {"message": "slow [disk]", "count": 3}),
        ("summary", {"job_id": "j1"}),
        ("state", {"state": "FAILED", "error": "no memory"}),
    )
    shown = gigpo("jobs", "logs", "j1")
    assert [line.split("  ", 1)[1] for line in shown.out.splitlines()] == [
        "state RUNNING",
        "phase evaluation before",
        "batch 2/3  success 0.50",
        "evaluation after: success 0.500 ± 0.037 on 64 episodes",
        "checkpoint b000002",
        "warning: slow [disk] (3 times so far)",
        "state FAILED: no memory",
    ]
    assert fake_api.query() == {"follow": "false"}
    lines = gigpo("jobs", "logs", "j1", "--json").out.splitlines()
    assert [json.loads(line)["kind"] for line in lines[:3]] == ["state", "state", "phase"]
    assert json.loads(lines[3]) == {
        "id": "4-0", "kind": "metrics", "at_unix_s": 4.0, "data": {"batch": 1, "success": 0.5}
    }  # fmt: skip
    assert gigpo("jobs", "logs", "j1", "--follow").code == 0
    assert [request.url.path for request in fake_api.requests[-2:]] == ["/v1/jobs/j1/events", "/v1/jobs/j1"]


@pytest.mark.parametrize("verb", ["cancel", "pause", "resume"])
def test_a_job_is_steered(fake_api: FakeApi, gigpo: Gigpo, verb: str) -> None:
    fake_api.has(job())
    fake_api.answers[f"POST /v1/jobs/j1:{verb}"] = job(wish=verb)
    done = gigpo("jobs", verb, "j1")
    assert (done.code, done.out) == (0, f"j1: {verb} noted, state RUNNING\n")
    assert gigpo("jobs", verb, "j1", "--json").document["wish"] == verb
    fake_api.answers[f"POST /v1/jobs/j1:{verb}"] = problem(409, "want a job that has not ended")
    refused = gigpo("jobs", verb, "j1")
    assert (refused.code, refused.out, refused.err) == (2, "", "gigpo: want a job that has not ended\n")


def test_a_retry_and_a_fork_are_new_jobs(fake_api: FakeApi, gigpo: Gigpo) -> None:
    fake_api.has(job(state="FAILED"))
    made = job(id="j2", parent_job="j1")
    fake_api.answers |= {"POST /v1/jobs/j1:retry": made, "POST /v1/jobs/j1:fork": made}
    assert gigpo("jobs", "retry", "j1").out == "job j2 from j1; `gigpo jobs follow j2` watches it\n"
    assert fake_api.requests[-1].headers["idempotency-key"]
    changes = ("--set", "learning_rate=0.5", "--set", "algorithm.beta=0")
    forked = gigpo("jobs", "fork", "j1", "--checkpoint", "b1", "--name", "gentle", *changes, "--json")
    assert forked.document["id"] == "j2"
    assert fake_api.body() == {
        "checkpoint": "b1",
        "overrides": {"training": {"learning_rate": 0.5}, "algorithm": {"beta": 0}},
        "name": "gentle",
    }
    gigpo("jobs", "fork", "j1")
    assert fake_api.body() == {"overrides": {}}
    wrong = gigpo("jobs", "fork", "j1", "--set", "gama=1")
    assert (wrong.code, wrong.err) == (2, "gigpo: --set gama: unknown key; did you mean gamma?\n")


def test_an_evaluation_is_made_watched_and_shown(fake_api: FakeApi, gigpo: Gigpo) -> None:
    fake_api.has(job(), job(id="e1", kind="evaluation", state="SUCCEEDED"))
    fake_api.answers |= {"POST /v1/evaluations": evaluation_job(state="PENDING", result=None, baselines={})}
    fake_api.answers |= {"GET /v1/evaluations/e1": evaluation_job()}
    options = ("--checkpoint", "b1", "--episodes", "64", "--seed", "7", "--split", "test", "--baselines")
    done = gigpo("eval", "run", "j1", *options, "--name", "exam")
    assert done.code == 0, done.err
    assert done.out.splitlines()[0] == "evaluation e1 of j1, checkpoint final"
    assert ["random", "admissible", "actions", "64", "0.100", "±", "0.037", "0.100", "8.0", "1.0%", "–"] in done.rows
    sent = next(json.loads(one.content) for one in fake_api.requests if one.method == "POST")
    assert sent == {
        "job_id": "j1",
        "checkpoint": "b1",
        "eval_episodes": 64,
        "eval_seed": 7,
        "split": "test",
        "baselines": True,
        "name": "exam",
    }
    at_once = gigpo("eval", "run", "j1", "--no-follow")
    assert (at_once.code, at_once.out.splitlines()[-1]) == (0, "e1: PENDING")
    fake_api.answers["GET /v1/evaluations/e1"] = evaluation_job(state="FAILED", result=None, baselines={}, error="lost")
    failed = gigpo("eval", "run", "j1")
    assert (failed.code, failed.out.splitlines()[-1]) == (1, "e1: FAILED: lost")


def test_evaluations_are_listed_with_their_success(fake_api: FakeApi, gigpo: Gigpo) -> None:
    fake_api.has(job())
    open_one = evaluation_job(id="e2", name="exam", state="RUNNING", result=None)
    fake_api.answers["GET /v1/evaluations"] = {"evaluations": [open_one, evaluation_job()], "next_cursor": None}
    assert gigpo("eval", "list", "--job", "j1").rows[1:] == [
        ["e2", "exam", "RUNNING", "j1", "final", "1,024", "7", "–"],
        ["e1", "–", "SUCCEEDED", "j1", "final", "1,024", "7", "0.500", "±", "0.037"],
    ]
    assert fake_api.query() == {"job_id": "j1", "limit": "20"}
    assert [one["id"] for one in gigpo("eval", "list", "--json").document] == ["e2", "e1"]


def step(index: int, **fields: Any) -> dict[str, Any]:
    return {
        "step_index": index,
        "prompt": "you are [here]",
        "response": "go",
        "action": "go north",
        "action_valid": True,
        "finish_reason": "stop",
        "reward": 0.0,
        "anchor": "here",
        "versions": [0],
        "logprob_sum": -0.5,
        "step_return": 0.95,
        "advantage": 1.0,
        "episode_advantage": 0.5,
        "step_advantage": 0.5,
        "step_group": 0,
        "step_group_members": [{"k": 1, "step_index": 0}],
        **fields,
    }


def episode(k: int, *steps: dict[str, Any], **fields: Any) -> dict[str, Any]:
    common = {"episode_id": f"g1/{k}", "k": k, "attempt": 1, "task": "put it there", "score": 1.0, "terminated": True}
    return {**common, "won": True, "truncated": False, "steps": list(steps), **fields}


BRIEF: dict[str, Any] = {
    "group_id": "g1",
    "purpose": "training",
    "batch": 4,
    "label": None,
    "cursor": 0,
    "task": "put [it] there [/b] :key:",
    "episodes": 3,
    "won": 1,
    "return_mean": 0.5,
    "steps": [2, 1, 1],
}


def test_rollouts_are_listed_and_filtered(fake_api: FakeApi, gigpo: Gigpo) -> None:
    fake_api.has(job())
    page = {"rollouts": [BRIEF], "batches": [4], "panels": [], "next_offset": None}
    fake_api.answers["GET /v1/jobs/j1/rollouts"] = page
    assert gigpo("rollouts", "list", "j1").rows[1] == ["g1", "4", "1/3", "0.500", "2", "1", "1", *BRIEF["task"].split()]
    assert fake_api.query() == {"limit": "20"}
    filters = ("--batch", "0", "--won", "some", "--min-length", "1", "--max-length", "9", "--evaluation", "after")
    assert gigpo("rollouts", "list", "j1", *filters, "--json").document[0]["group_id"] == "g1"
    wanted = {"batch": "0", "won": "some", "min_length": "1", "max_length": "9", "label": "after"}
    assert fake_api.query() == {**wanted, "purpose": "evaluation", "limit": "20"}


def test_a_rollout_is_shown_with_the_parts_of_each_advantage(fake_api: FakeApi, gigpo: Gigpo) -> None:
    fake_api.has(job())
    odd = step(0, action="fly", action_valid=False, step_advantage=-0.25, advantage=0.25, step_group_members=[])
    fake_api.answers["GET /v1/jobs/j1/rollouts/g1"] = {
        **BRIEF,
        "diagnostics": {},
        "played": [
            episode(0, step(0), step(1, reward=1.0)),
            episode(1, odd, won=False, truncated=True, score=0.0),
            episode(2, step(0), won=False, score=0.25),
        ],
    }
    shown = gigpo("rollouts", "show", "j1", "g1")
    assert shown.out.splitlines()[:2] == ["group g1, batch 4: 1 of 3 won", "task: put [it] there [/b] :key:"]
    assert ["0", "go", "north", "0.00", "0.950", "+0.500", "+0.500", "+1.000", "1"] in shown.rows
    assert ["0", "fly", "(invalid)", "0.00", "0.950", "+0.500", "-0.250", "+0.250", "0"] in shown.rows
    endings = [line for line in shown.out.splitlines() if line.startswith("episode")]
    assert endings == [
        "episode 0: won, score 1.000",
        "episode 1: ran out of turns, score 0.000",
        "episode 2: lost, score 0.250",
    ]
    one = gigpo("rollouts", "show", "j1", "g1", "--episode", "0", "--texts")
    assert "step 1 prompt:\nyou are [here]\nstep 1 response:\ngo\n" in one.out
    assert "episode 1" not in one.out
    none = gigpo("rollouts", "show", "j1", "g1", "--episode", "9")
    assert (none.code, none.err) == (2, "gigpo: --episode: want one of 0, 1, 2, got 9\n")


def test_checkpoints_are_listed_downloaded_exported_and_deleted(
    fake_api: FakeApi, gigpo: Gigpo, tmp_path: Path
) -> None:
    fake_api.has(job(name="demo"))
    files = [{"name": "config.json", "size_bytes": 2}, {"name": "model.safetensors", "size_bytes": 1_999_998}]
    checkpoint = {"name": "final", "final": True, "created_unix_s": 1.0, "files": files[:1]}
    folder = "/v1/jobs/j1/checkpoints"
    fake_api.answers[f"GET {folder}"] = [{**checkpoint, "files": files}]
    assert gigpo("checkpoints", "list", "j1").rows[1][-3:] == ["2", "2.0", "MB"]
    fake_api.answers |= {
        f"GET {folder}": [checkpoint],
        f"GET {folder}/final/files/config.json": httpx.Response(200, content=b"{}"),
        f"GET {folder}/final/export": httpx.Response(200, content=b"tar"),
        f"DELETE {folder}/final": httpx.Response(204),
    }
    assert gigpo("checkpoints", "download", "j1").out == "written: runs/demo/final\n"
    assert (tmp_path / "runs" / "demo" / "final" / "config.json").read_bytes() == b"{}"
    assert gigpo("checkpoints", "export", "j1", "--json").document == {"path": "demo-final.tar"}
    there = gigpo("checkpoints", "export", "j1")
    assert (there.code, there.err[:40]) == (2, "gigpo: demo-final.tar is there already; ")
    assert gigpo("checkpoints", "export", "j1", "--force").code == 0
    assert gigpo("checkpoints", "delete", "j1", "final", "--yes").out == "deleted final of demo\n"
    assert fake_api.requests[-1].method == "DELETE"
    assert gigpo("checkpoints", "delete", "j1", "final", "-y", "--json").document == {"job": "j1", "deleted": "final"}
