"""`gigpo diagnose`, `changed`, `states`, `watch`: what they ask for and what they print."""

from __future__ import annotations

import copy
import json
from typing import Any

import httpx

from services.api.http.examples import EXAMPLES
from tests.unit.client.fake_api import FakeApi, Gigpo, job
from tests.unit.client.test_client_command_train import finishes

DIAGNOSIS, CHANGES, STATES = (
    EXAMPLES[name]["answers"]["200"]["application/json"] for name in ("diagnose_job", "list_changes", "list_states")
)
WELL = {**DIAGNOSIS, "findings": []}


def test_a_diagnosis_shows_figures_meaning_and_advice(fake_api: FakeApi, gigpo: Gigpo) -> None:
    fake_api.has(job(name="demo"))
    fake_api.answers["GET /v1/jobs/j1/diagnosis"] = DIAGNOSIS
    lines = gigpo("diagnose", "j1").out.splitlines()
    assert lines[0] == "1 of 5 checks found something in 24 batches and 48 stored groups"
    assert lines[2] == "problem: Most groups are equal (equal_groups)"
    assert lines[3].startswith("  no_advantage_share: 0.8125  (share of groups")
    assert lines[-1].startswith("  What to do: No episode of these groups wins: raise num_generations")
    assert gigpo("diagnose", "j1", "--json").document == DIAGNOSIS


def test_a_job_that_is_well_is_said_to_be(fake_api: FakeApi, gigpo: Gigpo) -> None:
    fake_api.has(job())
    fake_api.answers["GET /v1/jobs/j1/diagnosis"] = WELL
    done = gigpo("diagnose", "j1")
    assert (done.code, done.out) == (0, "nothing found: 5 checks on 24 batches and 48 stored groups\n")


def test_training_ends_with_its_findings_in_one_line(fake_api: FakeApi, gigpo: Gigpo, tmp_path: Any) -> None:
    finishes(fake_api, name="demo")
    for answer, expected in (
        (DIAGNOSIS, ["diagnosis: most groups are equal; `gigpo diagnose j1` says what to do"]),
        (WELL, []),
        (None, []),
    ):
        fake_api.answers["GET /v1/jobs/j1/diagnosis"] = answer
        done = gigpo("jobs", "follow", "j1", "--output", "results")
        assert done.code == 0, done.err
        assert [line for line in done.out.splitlines() if line.startswith("diagnosis")] == expected


def test_changes_show_what_was_done_then_and_now(fake_api: FakeApi, gigpo: Gigpo) -> None:
    fake_api.has(job())
    fake_api.answers |= {
        "GET /v1/jobs/j1/changes": CHANGES,
        "GET /v1/jobs/j1/states": {**STATES, "next_cursor": None},
    }
    done = gigpo("changed", "j1", "--batches", "2", "19", "--width", "3", "--min-visits", "4", "--limit", "7")
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[0] == "from job j1a2126c436f8acbfa, training batches 0-1: 256 episodes, success 0.07"
    assert lines[2].startswith("61 states were visited often enough in both; the choice moved by 0.43 on average")
    moved = next(line for line in lines if "go east 0% → go east 95%" in line)
    assert "5 → 20" in moved
    assert CHANGES["items"][0]["task"] in moved
    numbers = ["0.294", "0.393", "10"]  # long tasks and states go on in lines of their own
    assert numbers in [line.split()[:3] for line in lines[lines.index("where it errs most, in the later batches:") :]]
    queries = [dict(one.url.params) for one in fake_api.requests[-2:]]
    assert queries[0] == {"from_batch": "2", "to_batch": "19", "width": "3", "min_visits": "4", "limit": "7"}
    assert queries[1] == {"to_batch": "19", "width": "3", "min_visits": "4", "sort": "regret", "limit": "7"}


def test_two_jobs_are_compared_by_name(fake_api: FakeApi, gigpo: Gigpo) -> None:
    fake_api.has(job(), job(id="j2", name="baseline"))
    fake_api.answers |= {
        "GET /v1/jobs/j1/changes": {**CHANGES, "compared": 0, "items": []},
        "GET /v1/jobs/j1/states": {**STATES, "items": [], "next_cursor": None},
    }
    done = gigpo("changed", "j1", "--with", "j2")
    assert "no state recurs" in done.out
    sent = next(one for one in fake_api.requests if one.url.path.endswith("/changes"))
    assert dict(sent.url.params)["with_job"] == "j2"
    refused = gigpo("changed", "j1", "--with", "j2", "--batches", "1", "2")
    assert (refused.code, refused.err) == (2, "gigpo: --batches: want it for one job alone, got --with too\n")


def test_states_are_searched(fake_api: FakeApi, gigpo: Gigpo) -> None:
    fake_api.has(job())
    page: dict[str, Any] = copy.deepcopy(STATES)
    page["next_cursor"] = None
    page["items"][0] |= {"regret": None, "best_action": None}
    fake_api.answers["GET /v1/jobs/j1/states"] = page
    one = page["items"][0]
    done = gigpo("states", "j1", "--text", "phone", "--sort", "visits")
    assert one["task"] in done.out  # the same state may be met under many tasks
    assert done.rows[1][:3] == ["–", "0.393", "10"]
    assert fake_api.query() == {
        "width": "10", "sort": "visits", "text": "phone", "min_visits": "5", "limit": "20",
    }  # fmt: skip
    assert gigpo("states", "j1", "--json").document == page["items"]


def test_a_task_that_is_the_whole_state_is_shown_once(fake_api: FakeApi, gigpo: Gigpo) -> None:
    fake_api.has(job())
    page: dict[str, Any] = copy.deepcopy(STATES)
    page["next_cursor"] = None
    page["items"][0] |= {"task": "3 plus 4", "anchor": "3 plus 4"}
    fake_api.answers["GET /v1/jobs/j1/states"] = page
    done = gigpo("states", "j1")
    assert "task" not in done.rows[0]
    assert done.out.count("3 plus 4") == 1


WATCH: dict[str, Any] = EXAMPLES["watch_job"]["answers"]["201"]["application/json"] | {
    "job_id": "j1",
    "player_job": "j1",
}
PATH = f"/v1/jobs/j1/watches/{WATCH['watch_id']}"
SEEN = {"of_task": True, "batches": [18], "state": STATES["items"][0]}
STEPS: list[tuple[str, dict[str, Any]]] = [
    ("waiting", {"message": "not yet"}),
    ("began", {"task": "put phone in south west", "max_turns": 12}),
    ("state", {"step_index": 0, "observation": "a [b]hall", "anchor": "hall", "prompt": "<s> hall", "seen": SEEN}),
    ("step", {"step_index": 0, "reply": "<act>go south</act>", "action": "go south", "action_valid": True,
              "reward": 1.0, "versions": [12], "finish_reason": "stop"}),
    ("state", {"step_index": 1, "observation": "", "anchor": "door", "prompt": "<s> door", "seen": None}),
    ("step", {"step_index": 1, "reply": "fly", "action": "fly", "action_valid": False, "reward": 0.0,
              "versions": [12, 13], "finish_reason": "length"}),
    ("ended", {"won": False, "score": 1.0, "steps": 2, "return_sum": 1.0, "out_of_turns": True}),
]  # fmt: skip


def told(*steps: tuple[str, dict[str, Any]]) -> httpx.Response:
    lines = [
        f"id: {at}-0\nevent: {kind}\ndata: {json.dumps({'kind': kind, 'at_unix_s': at, 'data': data})}\n\n"
        for at, (kind, data) in enumerate(steps, 1)
    ]
    return httpx.Response(200, content="".join(lines))


def plays(api: FakeApi, *steps: tuple[str, dict[str, Any]]) -> None:
    api.has(job())
    api.answers |= {"POST /v1/jobs/j1/watches": WATCH, f"GET {PATH}": told(*steps)}


def test_an_episode_is_shown_with_what_is_known_of_each_state(fake_api: FakeApi, gigpo: Gigpo) -> None:
    plays(fake_api, *STEPS)
    done = gigpo("watch", "j1", "--seed", "7", "--prompts")
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines() == [
        "job j1: the version that it serves plays task 7 of split test, beside its training",
        "waiting: not yet",
        "task: put phone in south west; at most 12 steps",
        "",
        "step 0  a [b]hall",
        "  10 visits, mean return 0.393, best action so far: go south",
        "     30%  return 0.687  go south",
        "  prompt:",
        "<s> hall",
        "  → go south   reward 1   version 12",
        "    reply: <act>go south</act>",
        "",
        "step 1  door",
        "  never seen in the stored rollouts",
        "  prompt:",
        "<s> door",
        "  → fly  (invalid)   reward 0   version 12, 13",
        "",
        "out of turns after 2 steps, return 1",
    ]
    assert fake_api.body(1) == {"seed": 7}


def test_the_events_of_an_episode_are_lines_of_json(fake_api: FakeApi, gigpo: Gigpo) -> None:
    plays(fake_api, *STEPS)
    done = gigpo("watch", "j1", "--json")
    assert [json.loads(line)["kind"] for line in done.out.splitlines()] == [kind for kind, _ in STEPS]
    assert "beside its training" in done.err


def test_an_episode_that_fails_ends_with_1(fake_api: FakeApi, gigpo: Gigpo) -> None:
    plays(fake_api, ("failed", {"message": "no replica"}))
    done = gigpo("watch", "j1")
    assert (done.code, done.out.splitlines()[-1]) == (
        1,
        "the episode could not be played to its end: no replica",
    )


def test_a_cut_stream_goes_on_where_it_was(fake_api: FakeApi, gigpo: Gigpo) -> None:
    plays(fake_api)
    answers = iter([told(*STEPS[:2]), told(*STEPS[2:])])
    seen: list[str | None] = []

    def next_part() -> Any:
        seen.append(fake_api.requests[-1].headers.get("Last-Event-ID"))
        return next(answers)

    fake_api.answers[f"GET {PATH}"] = next_part
    assert gigpo("watch", "j1", "--json").code == 0
    assert seen == [None, "2-0"]


def test_an_interrupt_stops_the_episode(fake_api: FakeApi, gigpo: Gigpo) -> None:
    def interrupt() -> Any:
        raise KeyboardInterrupt

    plays(fake_api)
    fake_api.answers[f"GET {PATH}"] = interrupt
    fake_api.answers[f"DELETE {PATH}"] = httpx.Response(204)
    assert gigpo("watch", "j1").code == 130
    assert [one.method for one in fake_api.requests][-2:] == ["GET", "DELETE"]
