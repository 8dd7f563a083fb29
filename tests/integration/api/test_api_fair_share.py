"""Projects take turns: a project with many queued jobs holds up nobody's first one. A real API and a real trainer."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from redis import Redis

from services.api.sync.broker import job_named_in
from services.contracts import keys
from services.contracts.policy import ReplicaStatus
from tests.integration.api.api_process import ApiProcess
from tests.integration.api.keyed_api import SPEC, KeyedApi, keyed_api
from tests.integration.api.submitting import until
from tests.integration.api.test_api_losses import QUEUE, wait_until
from tests.integration.trainer.trainer_platform import trainer_process

MANY = 50


@pytest.fixture
def keyed(redis_url: str, env_address: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[KeyedApi]:
    """An API that looks for losses every `loss_s`."""
    with keyed_api(tmp_path, redis_url, env_address, API_LOSS_S=getattr(request, "param", "0.3")) as process:
        yield process


@pytest.fixture
def teams(keyed: KeyedApi) -> Iterator[tuple[httpx.Client, httpx.Client]]:
    """Two projects' clients, and a replica that is always there."""
    alpha, beta = (keyed.new_key("read", "submit", project=name)["key"] for name in ("alpha", "beta"))
    status = ReplicaStatus(replica="r", job_id=None, version=-1, engine="", state="idle")
    with Redis.from_url(keyed.api.redis_url) as redis, keyed.client(alpha) as first, keyed.client(beta) as second:
        redis.hset(keys.REPLICAS, "r", status.model_dump_json())
        redis.set(keys.replica_heartbeat("r"), "r")
        yield first, second


def submit(client: httpx.Client) -> str:
    job: str = client.post("/v1/jobs", json=SPEC).raise_for_status().json()["id"]
    return job


def queued(api: ApiProcess, count: int) -> list[str]:
    wait_until(lambda: len(api.queued_jobs()) == count)
    return api.queued_jobs()


def test_a_project_with_fifty_queued_jobs_does_not_hold_up_anothers_first(
    keyed: KeyedApi, teams: tuple[httpx.Client, httpx.Client]
) -> None:
    alpha, beta = teams
    firsts = [submit(alpha) for _ in range(MANY)]
    queued(keyed.api, MANY)
    seconds = [submit(beta) for _ in range(2)]
    wait_until(lambda: keyed.api.queued_jobs()[:4] == [firsts[0], seconds[0], firsts[1], seconds[1]])
    with trainer_process(keyed.api.redis_url, keyed.api.data_dir):
        for client, job in ((alpha, firsts[0]), (beta, seconds[0]), (alpha, firsts[1])):
            until(client, job, "RUNNING")
            others = {*firsts, *seconds} - {job}
            assert others.isdisjoint(ids(keyed, "RUNNING")), "one trainer, one job"
            client.post(f"/v1/jobs/{job}:cancel").raise_for_status()
            until(client, job, "CANCELLED")
    assert sorted([*keyed.api.queued_jobs(), *ids(keyed, "CANCELLED"), *ids(keyed, "RUNNING")]) == sorted(
        [*firsts, *seconds]
    ), "no job is lost, none is there twice"


def ids(keyed: KeyedApi, state: str) -> list[str]:
    listed = keyed.admin.get("/v1/jobs", params={"state": state, "limit": 100}).raise_for_status().json()
    return [job["id"] for job in listed["items"]]


def test_a_queued_job_tells_its_place_and_keeps_it_up_to_date(
    keyed: KeyedApi, teams: tuple[httpx.Client, httpx.Client]
) -> None:
    alpha, beta = teams
    first, second, third = (submit(alpha) for _ in range(3))
    wait_until(lambda: places(alpha, first, second, third) == [0, 1, 2])
    theirs = submit(beta)
    wait_until(lambda: places(alpha, first, second, third) == [0, 2, 3] and places(beta, theirs) == [1])
    waits = "waits for a trainer: none is running; jobs before it: 3"
    wait_until(lambda: shown(alpha, third)["waits_for"] == waits)
    assert shown(alpha, third)["phase"] == "waiting, 3 before it"
    alpha.post(f"/v1/jobs/{second}:cancel").raise_for_status()
    wait_until(lambda: shown(alpha, third)["waits_for"].endswith("jobs before it: 2"))
    with trainer_process(keyed.api.redis_url, keyed.api.data_dir):
        wait_until(
            lambda: shown(alpha, third)["waits_for"] == "waits for a trainer: all 1 are at work; jobs before it: 1"
        )
        assert places(beta, theirs) == [0]
        assert shown(alpha, first)["jobs_before"] is None, "it runs"


def shown(client: httpx.Client, job: str) -> dict[str, object]:
    found: dict[str, object] = client.get(f"/v1/jobs/{job}").raise_for_status().json()
    return found


def places(client: httpx.Client, *jobs: str) -> list[object]:
    return [shown(client, job)["jobs_before"] for job in jobs]


@pytest.mark.parametrize("keyed", ["600"], indirect=True)
def test_no_message_is_lost_or_doubled_while_the_queue_is_put_in_order(
    keyed: KeyedApi, teams: tuple[httpx.Client, httpx.Client]
) -> None:
    """A worker takes messages as fast as it can, while new ones make the order change."""
    alpha, beta = teams
    taken: list[str] = []
    over = threading.Event()

    def take() -> None:
        with Redis.from_url(keyed.api.redis_url) as redis:
            while not over.is_set():
                if isinstance(message := redis.rpop(QUEUE), bytes):
                    taken.append(str(job_named_in(message)))

    submitted = [submit(alpha) for _ in range(20)]
    queued(keyed.api, 20)
    worker = threading.Thread(target=take)
    worker.start()
    for _ in range(10):
        submitted += [submit(beta), submit(alpha)]
    wait_until(lambda: set(taken) == set(submitted))
    over.set()
    worker.join()
    assert sorted([*taken, *keyed.api.queued_jobs()]) == sorted(submitted)
