"""Dead letters over REST: found, shown safely, put back once, dropped, and refused where that would do harm."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis

from services.api.sync.broker import job_named_in
from services.api.sync.fair_queue import WAITING_LIST
from services.contracts import keys
from services.contracts.messages import JobEvent, OpenedGroup, encode
from services.kit.dead_letters import MOST_BYTES, dead_letters
from services.kit.payloads import LARGE_BYTES, packed, payload_key
from tests.integration.api.api_process import ApiProcess, environment_service, running_api
from tests.integration.api.submitting import spec, until

EVIL = '<script>alert(1)</script> \x1b[31mred\x07 "\u202e'


@pytest.fixture(scope="module")
def api(redis_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiProcess]:
    with environment_service() as address, running_api(tmp_path_factory.mktemp("data"), redis_server, address) as one:
        yield one


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    with Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def job(http: httpx.Client, redis: Redis) -> str:
    made = str(http.post("/v1/jobs", json=spec()).raise_for_status().json()["id"])
    until(http, made, "QUEUED")
    return made


def letter(redis: Redis, stream: str, cause: str = "poison", **fields: Any) -> str:
    """A dead letter of the stream; its id among them."""
    added: Any = redis.xadd(dead_letters(stream), {"cause": cause, "id": "7-1", **fields})
    return str(added.decode())


def opened(job: str, redis: Redis, state: str) -> str:
    """The dead letter of a group of the job in that state."""
    group = OpenedGroup(
        job_id=job, group_id="g1", purpose="train", cursor=0, task_seed=0, split="train", n=2, min_version=0
    )
    record = {"state": state, "purpose": "train", "cursor": 0, "n": 2, "attempt": 1, "message": "7-1"}
    redis.hset(keys.group(job, "g1"), mapping=record)
    return f"groups.{job}.{letter(redis, keys.groups_stream(job), p=encode(group))}"


def listed(http: httpx.Client, **query: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = http.get("/v1/dead-letters", params=query).raise_for_status().json()["items"]
    return found


def test_letters_of_all_streams_are_listed_page_by_page_the_newest_first(
    http: httpx.Client, redis: Redis, job: str
) -> None:
    streams = {
        "groups": keys.groups_stream(job),
        "episodes": keys.episodes_stream(job),
        "scored": keys.scored_stream(job),
        "events": keys.events_stream(job),
        "requests": keys.requests_stream("host-1"),
        "replies": keys.replies_stream("host-2"),
    }
    for name, stream in streams.items():
        letter(redis, stream, f"poison of {name}", q="x")
        time.sleep(0.002)  # letters of one instant have no order
    found = listed(http)
    assert [(one["stream"], one["cause"]) for one in found] == [
        (name, f"poison of {name}") for name in reversed(streams)
    ]
    assert [one["job_id"] for one in found] == [None, None, job, job, job, job]
    assert [one["service"] for one in found] == ["rollout", "inference", "api", "trainer", "advantage", "rollout"]
    page = http.get("/v1/dead-letters", params={"limit": 4}).json()
    rest = http.get("/v1/dead-letters", params={"cursor": page["next_cursor"]}).json()
    assert [*page["items"], *rest["items"]] == found
    assert [one["stream"] for one in listed(http, job_id=job)] == ["events", "scored", "episodes", "groups"]
    assert http.get("/v1/dead-letters", params={"job_id": "j1"}).status_code == 404


def test_a_letter_is_shown_as_text_that_no_terminal_or_page_obeys(http: httpx.Client, redis: Redis, job: str) -> None:
    at = letter(redis, keys.groups_stream(job), EVIL, p=EVIL, q=b"\xff" * 10, r="x" * 9_000)
    name = f"groups.{job}.{at}"
    shown = http.get(f"/v1/dead-letters/{name}").raise_for_status().json()
    texts = [shown["cause"], *(one["text"] for one in shown["fields"])]
    assert all(one.isprintable() for one in texts)
    assert [(one["name"], one["size_bytes"], one["cut"]) for one in shown["fields"]] == [
        ("p", len(EVIL.encode()), False),
        ("q", 10, False),
        ("r", 9_000, True),
    ]
    assert len(shown["fields"][2]["text"]) <= 4_096
    for path in (f"/dead-letters/{name}", f"/dead-letters?job_id={job}"):
        html = http.get(path).raise_for_status().text
        assert "<script>alert" not in html
        assert "&lt;script&gt;alert" in html


def test_a_message_is_shown_as_json(http: httpx.Client, redis: Redis, job: str) -> None:
    shown = http.get(f"/v1/dead-letters/{opened(job, redis, 'OPEN')}").raise_for_status().json()
    assert shown["group_id"] == "g1"
    assert '"group_id":"g1"' in shown["fields"][0]["text"]


def test_a_letter_is_put_back_once_by_whoever_comes_first(http: httpx.Client, redis: Redis, job: str) -> None:
    name = opened(job, redis, "OPEN")
    with ThreadPoolExecutor(8) as callers:
        answers = list(callers.map(lambda _: http.post(f"/v1/dead-letters/{name}:retry"), range(8)))
    assert sorted(one.status_code for one in answers) == [200, *[404] * 7]
    (done,) = (one.json() for one in answers if one.status_code == 200)
    ((entry, fields),) = redis.xrange(keys.groups_stream(job))  # type: ignore[misc, union-attr]
    assert (entry.decode(), b"p" in fields) == (done["entry_id"], True)
    assert redis.hget(keys.group(job, "g1"), "message") == entry, "the ledger acknowledges the new entry"
    assert listed(http) == []


def test_an_event_that_is_put_back_is_stored(http: httpx.Client, redis: Redis, job: str) -> None:
    event = encode(JobEvent(kind="phase", at_unix_s=1.0, data={"phase": "training"}))
    name = f"events.{job}.{letter(redis, keys.events_stream(job), 'a newer release wrote it', p=event)}"
    http.post(f"/v1/dead-letters/{name}:retry").raise_for_status()
    while http.get(f"/v1/jobs/{job}").json()["phase"] != "training":
        time.sleep(0.05)


def test_a_payload_beside_the_stream_is_shown_put_back_and_missed(http: httpx.Client, redis: Redis, job: str) -> None:
    stream, event = (
        keys.events_stream(job),
        JobEvent(kind="warning", at_unix_s=1.0, data={"message": "m" * LARGE_BYTES}),
    )
    name, stored, fields = packed(encode(event))
    redis.set(payload_key(stream, name), stored)
    there = f"events.{job}.{letter(redis, stream, **{field.decode(): value for field, value in fields.items()})}"
    shown = http.get(f"/v1/dead-letters/{there}").raise_for_status().json()
    assert ("p", len(encode(event)), True) in [(one["name"], one["size_bytes"], one["cut"]) for one in shown["fields"]]
    assert shown["size_bytes"] > LARGE_BYTES
    http.post(f"/v1/dead-letters/{there}:retry").raise_for_status()
    while "m" * LARGE_BYTES not in http.get(f"/v1/jobs/{job}/events", params={"follow": False}).text:
        time.sleep(0.05)
    gone = f"events.{job}.{letter(redis, stream, r='ab' * 16)}"
    refused = http.post(f"/v1/dead-letters/{gone}:retry")
    assert (refused.status_code, "whose payload has expired" in refused.text) == (409, True)
    assert http.delete(f"/v1/dead-letters/{gone}").status_code == 204


@pytest.mark.parametrize("state", ["DROPPED", "CONSUMED", "COMPLETE"])
def test_a_group_that_does_not_wait_is_not_announced_again_and_its_letter_can_go(
    http: httpx.Client, redis: Redis, job: str, state: str
) -> None:
    name = opened(job, redis, state)
    refused = http.post(f"/v1/dead-letters/{name}:retry")
    assert (refused.status_code, "group g1 does not wait for it any more" in refused.text) == (409, True)
    assert http.delete(f"/v1/dead-letters/{name}").status_code == 204
    assert http.delete(f"/v1/dead-letters/{name}").status_code == 404


def test_a_letter_that_its_group_waits_for_is_kept(http: httpx.Client, redis: Redis, job: str) -> None:
    """The trainer learns from it that the group is stuck: without it the group would stay open for ever."""
    name = opened(job, redis, "GENERATING")
    refused = http.delete(f"/v1/dead-letters/{name}")
    assert (refused.status_code, "group g1 still waits for it" in refused.text) == (409, True)
    assert len(listed(http)) == 1


def test_nothing_is_put_where_nobody_reads(http: httpx.Client, redis: Redis, api: ApiProcess, job: str) -> None:
    api.say(job, "state", state="CANCELLED")
    until(http, job, "CANCELLED")
    names = {
        f"scored.{job}": keys.scored_stream(job),
        "requests.host-1": keys.requests_stream("host-1"),
        "replies.host-2": keys.replies_stream("host-2"),
    }
    ids = {name: letter(redis, stream, p="x") for name, stream in names.items()}
    for name, letter_id in ids.items():
        assert http.post(f"/v1/dead-letters/{name}.{letter_id}:retry").status_code == 409
    redis.set(keys.replica_heartbeat("host-1"), "1")
    redis.set(keys.service_heartbeat("rollout", "host-2"), "1")
    for name in ("requests.host-1", "replies.host-2"):
        assert http.post(f"/v1/dead-letters/{name}.{ids[name]}:retry").status_code == 200


def test_what_was_not_kept_whole_is_not_put_back(http: httpx.Client, redis: Redis, job: str) -> None:
    name = f"scored.{job}.{letter(redis, keys.scored_stream(job), p='x' * MOST_BYTES)}"
    refused = http.post(f"/v1/dead-letters/{name}:retry")
    assert (refused.status_code, "kept whole" in refused.text) == (409, True)


@pytest.mark.parametrize(
    "name", ["x", "groups.j1.7-1", "groups..7-1", "groups.{j}.7-1", "nothing.j1.7-1", "groups.j1.x"]
)
def test_an_id_that_names_no_letter_is_not_found(http: httpx.Client, redis: Redis, name: str) -> None:
    for answer in (
        http.get(f"/v1/dead-letters/{name}"),
        http.post(f"/v1/dead-letters/{name}:retry"),
        http.delete(f"/v1/dead-letters/{name}"),
    ):
        assert answer.status_code == 404, answer.text


def test_another_value_in_the_letters_place_hides_nothing_else(http: httpx.Client, redis: Redis, job: str) -> None:
    redis.set(dead_letters(keys.groups_stream(job)), "x")
    redis.set("other:dead", "x")
    letter(redis, keys.episodes_stream(job))
    assert [one["stream"] for one in listed(http)] == ["episodes"]
    for path in (f"/jobs/{job}", "/system"):
        assert "1 dead letter." in http.get(path).raise_for_status().text
    assert http.get("/v1/system").raise_for_status().json()["dead_letters"] == 1


def test_the_dashboard_retries_and_drops(http: httpx.Client, redis: Redis, job: str, api: ApiProcess) -> None:
    first, second = (f"scored.{job}.{letter(redis, keys.scored_stream(job), p='g1')}" for _ in range(2))
    headers = {"Origin": api.url}
    for name, verb in ((first, "retry"), (second, "drop")):
        done = http.post(f"/dead-letters/{name}/{verb}", headers=headers)
        assert (done.status_code, done.headers["location"]) == (303, f"/dead-letters?job_id={job}")
    assert redis.xlen(keys.scored_stream(job)) == 1
    assert listed(http) == []


def test_letters_wait_for_a_redis_that_is_away(tmp_path: Path) -> None:
    with (
        environment_service() as address,
        running_api(tmp_path, "redis://127.0.0.1:9/0", address) as process,
        httpx.Client(base_url=process.url, timeout=90) as client,
    ):
        assert client.get("/v1/dead-letters").status_code == 503


def test_letters_of_the_trainers_queue_are_listed_shown_retried_and_dropped(
    http: httpx.Client, redis: Redis, api: ApiProcess, job: str
) -> None:
    (message,) = [one for one in redis.lrange(WAITING_LIST, 0, -1) if job_named_in(one) == job]  # type: ignore[union-attr]
    redis.lrem(WAITING_LIST, 1, message)
    whole, rubbish = (redis.xadd("trainer:dead", {"cause": "no message", "p": p}).decode() for p in (message, b"\xff"))  # type: ignore[union-attr]
    names = [f"queue.trainer.{one}" for one in (whole, rubbish)]
    found = {one["id"]: one for one in listed(http)}
    assert {(found[name]["service"], found[name]["cause"], found[name]["job_id"]) for name in names} == {
        ("trainer", "no message", None)
    }
    shown = http.get(f"/v1/dead-letters/{names[0]}").raise_for_status().json()
    assert job in shown["fields"][0]["text"]
    refused = http.post(f"/v1/dead-letters/{names[1]}:retry")
    assert (refused.status_code, "names none" in refused.json()["detail"]) == (409, True)
    retried = http.post(f"/v1/dead-letters/{names[0]}:retry").raise_for_status().json()
    assert retried["entry_id"] == job
    assert job in api.queued_jobs()
    assert http.post(f"/v1/dead-letters/{names[0]}:retry").status_code == 404, "once"
    assert http.delete(f"/v1/dead-letters/{names[1]}").status_code == 204
    assert not redis.exists("trainer:dead") or not redis.xlen("trainer:dead")
