"""Diagnosis, states, changes and watched episodes over REST, on a real API with stored rollouts."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis

from services.contracts import ids, keys
from services.contracts.messages import OpenedGroup, decode
from services.contracts.watching import (
    FIELD,
    AnyShown,
    PlayBegan,
    PlayEnded,
    StateReached,
    StepTaken,
    encoded,
)
from tests.integration.api.api_process import ApiProcess
from tests.integration.api.keyed_api import KeyedApi
from tests.integration.api.submitting import spec, until
from tests.job_files import write_job_files
from tests.rollout_archives import write
from tests.unit.api.insight_groups import group_of, played

GIGPO = {"algorithm": {"advantage_estimator": "gigpo"}}


def folder(api: ApiProcess, job: str) -> Path:
    return api.data_dir / "jobs" / job


def submitted(api: ApiProcess, http: httpx.Client, state: str = "RUNNING", **sections: Any) -> str:
    job = str(http.post("/v1/jobs", json=spec(**sections)).raise_for_status().json()["id"])
    until(http, job, "QUEUED")
    folder(api, job).mkdir(parents=True, exist_ok=True)
    api.say(job, "state", state="RUNNING")
    if state != "RUNNING":
        api.say(job, "state", state=state)
    until(http, job, state)
    return job


def turning(folder: Path, *, batches: int = 4) -> None:
    """Groups in which the policy turns in `hall` from left, which loses, to right, which wins."""
    for batch in range(batches):
        right = batch * 2
        episodes = [
            played(["hall", "door"], ["right" if k < right else "left", "open"], won=k < right) for k in range(6)
        ]
        write(folder, batch, [group_of(episodes, group_id=f"t{batch}", advantage=0.5)])


@pytest.fixture
def job(api: ApiProcess, http: httpx.Client) -> str:
    made = submitted(api, http, **GIGPO)
    turning(folder(api, made))
    return made


def test_a_diagnosis_rests_on_metrics_rollouts_and_the_ledger(api: ApiProcess, http: httpx.Client, job: str) -> None:
    well = http.get(f"/v1/jobs/{job}/diagnosis").raise_for_status().json()
    assert (well["job_id"], well["batches"], well["groups"], well["findings"]) == (job, 0, 3, [])
    for batch in range(20):
        api.say(job, "metrics", batch=batch, success=0.0, return_mean=0.0, invalid_share=0.95)
    with Redis.from_url(api.redis_url) as redis:
        redis.hset(keys.ledger(job), mapping={"opened": 100, "dropped:infra": 20})
    _until(lambda: http.get(f"/v1/jobs/{job}/diagnosis").json()["batches"] == 20)
    found = http.get(f"/v1/jobs/{job}/diagnosis").json()
    assert {one["code"] for one in found["findings"]} == {"success_stays_zero", "invalid_actions", "groups_lost"}
    assert [one["severity"] for one in found["findings"]] == sorted(
        (one["severity"] for one in found["findings"]), key=lambda one: one != "problem"
    )


def test_changes_and_states_lead_to_the_stored_steps(http: httpx.Client, job: str) -> None:
    query = {"width": 1, "limit": 1}
    found = http.get(f"/v1/jobs/{job}/changes", params=query).raise_for_status().json()
    assert (found["before"]["batches"], found["after"]["batches"], found["compared"]) == ([0], [3], 2)
    (hall,) = found["items"]
    assert (hall["anchor"], hall["total_variation"]) == ("hall", 1.0)
    place = hall["place_after"]
    step = http.get(f"/v1/jobs/{job}/rollouts/{place['group_id']}").json()["played"][place["k"]]["steps"]
    assert step[place["step_index"]]["anchor"] == "hall"
    rest = http.get(f"/v1/jobs/{job}/changes", params={**query, "cursor": found["next_cursor"]}).json()
    assert [one["anchor"] for one in rest["items"]] == ["door"]
    assert rest["next_cursor"] is None
    erring = http.get(f"/v1/jobs/{job}/states", params={"text": "HALL"}).raise_for_status().json()
    assert [(one["best_action"], one["usual_action"]) for one in erring["items"]] == [("right", "left")]
    assert erring["played"]["batches"] == [0, 1, 2, 3]


def test_two_jobs_are_compared(api: ApiProcess, http: httpx.Client, job: str) -> None:
    other = submitted(api, http, **GIGPO)
    turning(folder(api, other), batches=1)
    found = http.get(f"/v1/jobs/{job}/changes", params={"with_job": other, "width": 1}).raise_for_status().json()
    assert (found["before"]["job_id"], found["after"]["job_id"]) == (other, job)
    assert found["items"][0]["total_variation"] == 1.0


@pytest.mark.parametrize(
    ("path", "status", "detail"),
    [
        ("changes?from_batch=90&width=1", 404, "has no stored training rollouts of batches 90-any"),
        ("changes?with_job=j404", 404, "no job 'j404'"),
        ("changes?width=0", 422, "width: "),
        ("changes?cursor=x", 422, "cursor: "),
        ("states?sort=best", 422, "sort: "),
        ("states?min_visits=0", 422, "min_visits: "),
        ("states?texts=a", 422, "texts: unknown parameter, got 'a'; did you mean text?"),
        ("watches/w0123", 404, "no watch 'w0123'"),
        ("watches/j0123", 404, "no job 'j0123'"),
    ],
)
def test_what_is_not_there_or_wrong_is_said(http: httpx.Client, job: str, path: str, status: int, detail: str) -> None:
    answer = http.get(f"/v1/jobs/{job}/{path}")
    assert answer.status_code == status
    assert detail in answer.json()["detail"]


def tell(api: ApiProcess, job: str, watch: str, *shown: AnyShown) -> None:
    """Publish as a rollout worker does."""
    with Redis.from_url(api.redis_url) as redis:
        for one in shown:
            assert redis.xadd(keys.watch(job, watch), {FIELD: encoded(one)}, nomkstream=True)


STATE = StateReached(step_index=0, observation="a hall", anchor="hall", admissible_actions=["left"], prompt="<s> hall")
STEP = StepTaken(
    step_index=0, reply="left", action="left", action_valid=True, reward=1.0, versions=[3], finish_reason="stop"
)
EPISODE: tuple[AnyShown, ...] = (
    PlayBegan(task="put it", max_turns=5), STATE, STEP,
    PlayEnded(won=True, score=1.0, steps=1, return_sum=1.0, out_of_turns=False),
)  # fmt: skip


def events(http: httpx.Client, path: str, **headers: str) -> Iterator[dict[str, Any]]:
    with http.stream("GET", path, headers=headers) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        fields: dict[str, str] = {}
        for line in answer.iter_lines():
            name, _, value = line.partition(": ")
            fields[name] = value
            if not line:  # an event ends here, whatever the order of its fields
                if "data" in fields:
                    yield {"id": fields["id"], **json.loads(fields["data"])}
                fields = {}


def test_a_running_job_plays_beside_its_training(api: ApiProcess, http: httpx.Client, job: str) -> None:
    begun = http.post(f"/v1/jobs/{job}/watches", json={"seed": 7, "split": "train"})
    assert begun.status_code == 201
    watch = begun.json()
    assert (watch["player_job"], watch["checkpoint"], watch["seed"], watch["split"]) == (job, None, 7, "train")
    with Redis.from_url(api.redis_url) as redis:
        payload: Any = redis.lpop(keys.plays(job))
        assert 0 < redis.ttl(keys.watch(job, watch["watch_id"])) <= 60
    group = decode(payload, OpenedGroup)
    assert (group.group_id, group.n, group.task_seed, group.split, group.min_version) == (
        watch["watch_id"], 1, ids.task_seed(7, "eval", 0), "train", 0,
    )  # fmt: skip
    path = f"/v1/jobs/{job}/watches/{watch['watch_id']}"
    teller = threading.Timer(0.5, tell, (api, job, watch["watch_id"], *EPISODE))
    teller.start()
    shown = list(events(http, path))
    teller.join()
    assert [one["kind"] for one in shown] == ["waiting", "began", "state", "step", "ended"]
    seen = shown[2]["data"]["seen"]
    assert (seen["of_task"], seen["state"]["visits"], seen["state"]["best_action"]) == (True, 24, "right")
    assert shown[3]["data"]["reward"] == 1.0
    again = list(events(http, path, **{"Last-Event-ID": shown[2]["id"]}))
    assert [one["kind"] for one in again] == ["step", "ended"]


def test_a_state_that_only_other_tasks_met_says_so(api: ApiProcess, http: httpx.Client, job: str) -> None:
    watch = http.post(f"/v1/jobs/{job}/watches", json={}).json()["watch_id"]
    other, unknown = PlayBegan(task="another", max_turns=5), StateReached(
        step_index=1, observation="?", anchor="nowhere", admissible_actions=[], prompt=""
    )  # fmt: skip
    tell(api, job, watch, other, STATE, unknown, EPISODE[-1])
    states = [one["data"]["seen"] for one in events(http, f"/v1/jobs/{job}/watches/{watch}") if one["kind"] == "state"]
    assert (states[0]["of_task"], states[0]["state"]["visits"]) == (False, 24)
    assert states[1] is None


def test_a_watch_that_is_stopped_is_gone_and_its_stream_ends(api: ApiProcess, http: httpx.Client, job: str) -> None:
    watch = http.post(f"/v1/jobs/{job}/watches", json={}).json()["watch_id"]
    path = f"/v1/jobs/{job}/watches/{watch}"
    following = events(http, path)
    assert next(following)["kind"] == "waiting"
    with httpx.Client(base_url=api.url, timeout=20) as other:
        assert other.delete(path).status_code == 204
    assert [(one["kind"], one["data"]["message"]) for one in following] == [("failed", "the watch has ended")]
    assert http.delete(path).status_code == 404


def test_a_watch_ends_with_the_job_that_plays(api: ApiProcess, http: httpx.Client, job: str) -> None:
    watch = http.post(f"/v1/jobs/{job}/watches", json={}).json()["watch_id"]
    api.say(job, "state", state="FAILED", error="no memory")
    until(http, job, "FAILED")
    *_, last = events(http, f"/v1/jobs/{job}/watches/{watch}")
    assert last["data"]["message"] == f"the job {job} ended as FAILED before the episode was over: no memory"


def test_too_many_plays_that_wait_are_refused(http: httpx.Client, job: str) -> None:
    answers = [http.post(f"/v1/jobs/{job}/watches", json={}) for _ in range(9)]
    assert [one.status_code for one in answers] == [201] * 8 + [429]
    assert answers[-1].headers["retry-after"] == "5"
    assert answers[-1].json()["detail"] == "want at most 8 watched episodes that wait, try again in 5 s"


def test_an_ended_job_plays_as_an_evaluation_of_one_episode(api: ApiProcess, http: httpx.Client) -> None:
    ended = submitted(api, http, "SUCCEEDED")
    assert http.post(f"/v1/jobs/{ended}/watches", json={}).status_code in (404, 409)
    write_job_files(folder(api, ended))
    watch = http.post(f"/v1/jobs/{ended}/watches", json={"seed": 3}).raise_for_status().json()
    made = http.get(f"/v1/evaluations/{watch['watch_id']}").raise_for_status().json()
    assert (made["job_id"], made["eval_episodes"], made["eval_seed"], made["baselines"]) == (ended, 1, 3, {})
    assert (watch["player_job"], watch["checkpoint"]) == (made["id"], made["checkpoint"])
    with Redis.from_url(api.redis_url) as redis:
        assert redis.get(keys.watched(made["id"])) == watch["watch_id"].encode()
    tell(api, made["id"], watch["watch_id"], *EPISODE)
    kinds = [one["kind"] for one in events(http, f"/v1/jobs/{ended}/watches/{watch['watch_id']}")]
    assert kinds == ["waiting", "began", "state", "step", "ended"]
    assert http.delete(f"/v1/jobs/{ended}/watches/{watch['watch_id']}").status_code == 204
    _until(lambda: http.get(f"/v1/jobs/{made['id']}").json()["wish"] == "cancel")
    missing = http.post(f"/v1/jobs/{ended}/watches", json={"checkpoint": "b000099"})
    assert missing.status_code == 404


def test_another_project_sees_and_begins_no_watch(keyed: KeyedApi) -> None:
    with (
        keyed.client(keyed.new_key("read", "submit", project="alpha")["key"]) as alpha,
        keyed.client(keyed.new_key("read", "submit", project="beta")["key"]) as beta,
        keyed.client(keyed.new_key("read", project="alpha")["key"]) as looks,
    ):
        job = submitted(keyed.api, alpha)
        turning(folder(keyed.api, job))
        watch = alpha.post(f"/v1/jobs/{job}/watches", json={}).raise_for_status().json()["watch_id"]
        assert looks.post(f"/v1/jobs/{job}/watches", json={}).status_code == 403
        assert looks.get(f"/v1/jobs/{job}/diagnosis").status_code == 200
        other = submitted(keyed.api, beta)
        for method, path in (
            ("POST", f"/v1/jobs/{job}/watches"),
            ("GET", f"/v1/jobs/{job}/watches/{watch}"),
            ("DELETE", f"/v1/jobs/{job}/watches/{watch}"),
            ("GET", f"/v1/jobs/{other}/watches/{watch}"),
            ("GET", f"/v1/jobs/{job}/diagnosis"),
            ("GET", f"/v1/jobs/{job}/states"),
            ("GET", f"/v1/jobs/{other}/changes?with_job={job}"),
        ):
            answer = beta.request(method, path, json={} if method == "POST" else None)
            assert answer.status_code == 404, (method, path)


def _until(holds: Callable[[], bool]) -> None:
    import time

    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)
