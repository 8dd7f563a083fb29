"""Two environment services: one is killed, drains or comes back, and no episode is lost or becomes another one."""

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import pytest
from pydantic import ValidationError

from services.contracts.messages import Episode, decode
from services.contracts.observation import KeyedOutcome
from services.ledger import GroupState
from services.rollout.environments import GrpcEnvironments, connected_environments
from services.rollout.errors import EnvironmentFault
from services.rollout.limits import EnvironmentLimits
from services.rollout.ports import OpenedSessions, Opening
from services.rollout.settings import Settings
from tests.integration.rollout.conftest import process_environment
from tests.integration.rollout.fake_replica import FakeReplica, serving
from tests.integration.rollout.worker_process import HANGS_S, WorkedJob, worker_process

ACTIONS = ("go north", "go east", "go east", "go south", "nonsense", "go west", "go north", "go north")
DRAIN_S = 60


@dataclass
class Service:
    """An environment service as a process."""

    process: subprocess.Popen[bytes]
    address: str

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def env_service(address: str = "127.0.0.1:0") -> Iterator[Service]:
    """An environment service that has announced itself; killed at the end when it still runs."""
    extra = {"troubled": "tests.integration.rollout.troubled_environment:Troubled"}
    environment = process_environment(
        ENV_SERVICE_PORT=address.rpartition(":")[2],
        ENV_SERVICE_DRAIN_S=str(DRAIN_S),
        ENV_SERVICE_EXTRA_ENVIRONMENTS=json.dumps(extra),
    )
    command = [sys.executable, "-m", "services.env.main"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield Service(process, json.loads(process.stdout.readline())["address"])
        process.kill()


@pytest.fixture
def services() -> Iterator[list[Service]]:
    with env_service() as first, env_service() as second:
        yield [first, second]


@contextlib.asynccontextmanager
async def client_of(*services: Service) -> AsyncIterator[GrpcEnvironments]:
    addresses = ",".join(service.address for service in services)
    async with connected_environments(addresses, EnvironmentLimits()) as environments:
        async with asyncio.timeout(HANGS_S):
            while not all(one["reachable"] for one in environments.services()):
                await asyncio.sleep(0.02)
        yield environments


def opening(seed: int, environment: str = "grid", n: int = 4) -> Opening:
    return Opening(key=f"group {seed}", environment=environment, kwargs={}, split="train", seed=seed, n=n)


async def opened_groups(environments: GrpcEnvironments) -> list[OpenedSessions]:
    return [await environments.open(opening(seed)) for seed in range(4)]


async def stepped(
    environments: GrpcEnvironments, groups: list[OpenedSessions], seqs: range
) -> list[list[KeyedOutcome]]:
    """The outcomes of these steps, all sessions side by side."""
    leases = [lease for group in groups for lease in group.leases]
    return [
        await asyncio.gather(*(environments.step(lease, seq, ACTIONS[seq - 1]) for lease in leases)) for seq in seqs
    ]


async def undisturbed() -> list[list[KeyedOutcome]]:
    with env_service() as service:
        async with client_of(service) as environments:
            return await stepped(environments, await opened_groups(environments), range(1, 9))


def homes(environments: GrpcEnvironments) -> dict[str, int]:
    """Address -> sessions that live there."""
    found: dict[str, int] = {}
    for session in environments._live.values():
        found[session.instance.address] = found.get(session.instance.address, 0) + 1
    return found


async def test_groups_spread_over_the_services_and_survive_a_killed_one(services):
    async with client_of(*services) as environments:
        groups = await opened_groups(environments)
        assert homes(environments) == {service.address: 8 for service in services}
        before = await stepped(environments, groups, range(1, 4))
        services[0].kill()
        async with asyncio.timeout(HANGS_S):
            after = await stepped(environments, groups, range(4, 9))
        assert homes(environments) == {services[1].address: 16}
    assert before + after == await undisturbed()


async def test_a_service_that_drains_hands_its_sessions_over_and_ends_before_its_time(services):
    async with client_of(*services) as environments:
        groups = await opened_groups(environments)
        before = await stepped(environments, groups, range(1, 4))
        services[1].process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(HANGS_S):
            while not any(one["draining"] for one in environments.services()):
                await asyncio.sleep(0.02)
            after = await stepped(environments, groups, range(4, 9))
            assert homes(environments) == {services[0].address: 16}
            assert await asyncio.to_thread(services[1].process.wait, DRAIN_S - 10) == 0
        assert (await environments.open(opening(9))).leases
    assert before + after == await undisturbed()


async def test_sessions_go_on_in_a_service_that_comes_back_at_its_address():
    with env_service() as service:
        async with client_of(service) as environments:
            groups = await opened_groups(environments)
            before = await stepped(environments, groups, range(1, 4))
            service.kill()
            going_on = asyncio.create_task(stepped(environments, groups, range(4, 9)))
            with env_service(service.address):
                async with asyncio.timeout(HANGS_S):
                    after = await going_on
    assert before + after == await undisturbed()


async def test_what_cannot_be_replayed_is_lost_with_its_service_and_said_so(services):
    async with client_of(*services) as environments:
        opened = await environments.open(opening(0, "troubled", 1))
        await environments.step(opened.leases[0], 1, "go")
        (home,) = homes(environments)
        next(service for service in services if service.address == home).kill()
        with pytest.raises(EnvironmentFault, match="FAILED_PRECONDITION") as caught:
            async with asyncio.timeout(HANGS_S):
                await environments.step(opened.leases[0], 2, "go")
        assert caught.value.lost


async def played(redis, redis_url, tmp_path, addresses: str, job_id: str, kill=None) -> list[Episode]:
    """The episodes of six groups, each of its first attempt; `kill` is called in their middle."""
    job = WorkedJob(redis, tmp_path, job_id, {"max_turns": 8})
    await job.begin()
    replica = FakeReplica(redis, job_id, job.replies("go north", "go south", "go east", "go west"), name=f"r_{job_id}")
    with worker_process(redis_url, addresses, tmp_path):
        group_ids = [await job.open(cursor) for cursor in range(6)]
        async with serving(replica):
            replica.silent = kill is not None
            if kill is not None:
                async with asyncio.timeout(HANGS_S):
                    while replica.items < 24:  # every session is open and waits for its policy
                        await asyncio.sleep(0.02)
                kill()
                replica.silent = False
                await replica.answer_late()
            await asyncio.wait_for(job.reach(GroupState.COMPLETE, *group_ids), HANGS_S)
    assert (await job.ledger.balance()).retried == 0
    await redis.srem("jobs:active", job_id)
    return [decode(payload, Episode) for group_id in group_ids for payload in await job.ledger.episodes_of(group_id)]


async def test_no_attempt_fails_when_one_of_two_services_is_killed(redis, redis_url, tmp_path, services):
    def told(episode: Episode) -> tuple[object, ...]:
        turns = [(step.prompt_ids, step.response_ids, step.reward, step.state_key) for step in episode.steps]
        return episode.episode_id, episode.attempt, episode.won, episode.score, turns

    both = ",".join(service.address for service in services)
    quiet = await played(redis, redis_url, tmp_path / "quiet", both, "job_a")
    disturbed = await played(redis, redis_url, tmp_path / "disturbed", both, "job_b", services[0].kill)
    assert [told(episode) for episode in disturbed] == [told(episode) for episode in quiet]


async def test_a_name_may_stand_for_services_and_a_wrong_one_says_what_is_wanted(services):
    port = services[0].address.rpartition(":")[2]
    limits = EnvironmentLimits(open_timeout_s=0.3)
    async with connected_environments(f"localhost:{port}", EnvironmentLimits()) as environments:
        assert (await environments.open(opening(0))).leases
    async with connected_environments("nobody.invalid:1", limits) as environments:
        with pytest.raises(EnvironmentFault, match=r"no service is known at nobody.invalid:1") as caught:
            await environments.open(opening(0))
        assert caught.value.lost
    for wrong in ("env", "env:0", "a:1,b", ":1"):
        with pytest.raises(ValidationError, match="want host:port, several with commas between them"):
            Settings(redis_url="redis://x", env_address=wrong)
