"""Playing on the real environment service over gRPC."""

import asyncio

import grpc
import pytest
from gigpo_proto.env.v1 import env_pb2, env_pb2_grpc

from services.kit.process import free_port
from services.rollout.environments import GrpcEnvironments, connected_environments
from services.rollout.errors import EnvironmentFault
from services.rollout.instances import connected_instances
from services.rollout.limits import EnvironmentLimits
from services.rollout.ports import Opening
from tests.integration.rollout.conftest import live_leases


def opening(key: str, **changes) -> Opening:
    fields = {"environment": "grid", "kwargs": {}, "split": "train", "seed": 3, "n": 4, **changes}
    return Opening(key=key, **fields)


class CountingStub:
    """Counts the messages that go out."""

    def __init__(self, stub) -> None:
        self._stub, self.batches = stub, []

    def __getattr__(self, name):
        return getattr(self._stub, name)

    def StepBatch(self, request, timeout):
        self.batches.append(len(request.steps))
        return self._stub.StepBatch(request, timeout=timeout)


@pytest.fixture
async def counted(env_address):
    async with connected_instances(env_address) as instances:
        (instance,) = instances._known.values()
        instance.stub = CountingStub(instance.stub)
        environments = GrpcEnvironments(instances, EnvironmentLimits())
        yield environments, instance.stub.batches
        await environments.drain()


async def test_light_steps_of_a_moment_travel_together_and_answers_find_their_leases(counted):
    environments, batches = counted
    groups = [await environments.open(opening(f"together {seed}", seed=seed, n=8)) for seed in range(4)]
    steps = [(lease, group) for group in groups for lease in group.leases]
    outcomes = await asyncio.gather(*(environments.step(lease, 1, "nonsense") for lease, _ in steps))
    assert batches == [32]
    assert [outcome.observation.text for outcome in outcomes] == [group.observation.text for _, group in steps]
    assert not any(outcome.action_valid for outcome in outcomes)


async def test_steps_that_are_not_light_go_alone(counted, env_address):
    environments, batches = counted
    opened = await environments.open(opening("alone", environment="grid", n=3))
    for session in environments._live.values():
        session.light = False
    await asyncio.gather(*(environments.step(lease, 1, "go north") for lease in opened.leases))
    assert batches == [1, 1, 1]


async def test_a_fault_of_the_environments_own_code_is_told_from_one_of_the_infrastructure(environments, tmp_path):
    opened = await environments.open(opening("bug", environment="troubled", n=1, kwargs={"raise_at": 2}))
    await environments.step(opened.leases[0], 1, "go")
    with pytest.raises(EnvironmentFault, match=r"environment env_bug: .*broken on purpose"):
        await environments.step(opened.leases[0], 2, "go")
    kwargs = {"die_once": str(tmp_path / "died")}
    opened = await environments.open(opening("death", environment="troubled", n=1, kwargs=kwargs))
    for seq in (1, 2):
        await environments.step(opened.leases[0], seq, "go")
    with pytest.raises(EnvironmentFault, match="environment infra: "):
        await environments.step(opened.leases[0], 3, "go")


async def test_a_refused_opening_names_the_service_and_its_reason(environments):
    for changes, words in (({"environment": "nowhere"}, "nowhere"), ({"kwargs": {"sizes": 3}}, "sizes")):
        with pytest.raises(EnvironmentFault, match=words):
            await environments.open(opening("refused", **changes))


async def test_an_unknown_lease_is_a_fault_at_once(environments):
    with pytest.raises(EnvironmentFault, match="NOT_FOUND"):
        await environments.step("no lease", 1, "go north")


async def test_an_opening_cancelled_under_way_leaves_no_lease(env_address):
    async with connected_environments(env_address, EnvironmentLimits()) as environments:
        task = asyncio.create_task(environments.open(opening("cancelled")))
        while not environments._opening:
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        (under_way,) = environments._opening
        leases = (await under_way).leases
    assert len(leases) == 4
    assert await live_leases(env_address, leases) == 0


async def test_everything_open_is_let_go_at_the_end(env_address):
    async with connected_environments(env_address, EnvironmentLimits()) as environments:
        opened = await environments.open(opening("left open"))
        assert await environments.step(opened.leases[0], 1, "go north")
    assert await live_leases(env_address, opened.leases) == 0


async def test_a_service_that_is_not_there_is_waited_for_and_then_a_fault():
    limits = EnvironmentLimits(open_timeout_s=0.3, step_timeout_s=0.3, call_timeout_s=0.2)
    async with connected_environments(f"127.0.0.1:{free_port()}", limits) as environments:
        with pytest.raises(EnvironmentFault, match=r"UNAVAILABLE|DEADLINE"):
            await environments.open(opening("nobody"))


class Forgetful(env_pb2_grpc.EnvironmentServiceServicer):
    """Refuses the first tries of everything."""

    def __init__(self) -> None:
        self.opened = self.stepped = 0
        self.renewed = asyncio.Event()

    async def ListEnvironments(self, request, context):
        return env_pb2.ListEnvironmentsResponse()

    async def OpenGroup(self, request, context):
        self.opened += 1
        if self.opened < 3:
            context.set_trailing_metadata((("retry-after-ms", "10"),))
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "full")
        return env_pb2.OpenGroupResponse(leases=["a"] * request.n, ttl_s=0.3)

    async def StepBatch(self, request, context):
        self.stepped += 1
        if self.stepped == 1:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "restarting")
        (step,) = request.steps
        late = env_pb2.Refusal(code=grpc.StatusCode.DEADLINE_EXCEEDED.value[0], message="not done yet")
        outcome = env_pb2.Outcome(reward=1.0)
        result = {"refusal": late} if self.stepped == 2 else {"outcome": outcome}
        return env_pb2.StepBatchResponse(results=[env_pb2.StepResult(lease=step.lease, seq=step.seq, **result)])

    async def Renew(self, request, context):
        assert list(request.leases) == ["a"]
        self.renewed.set()
        return env_pb2.RenewResponse(ttl_s=0.3)

    async def Close(self, request, context):
        return env_pb2.CloseResponse(closed=1)


async def test_what_may_be_repeated_is_repeated_and_waiting_leases_are_renewed():
    server, servicer = grpc.aio.server(), Forgetful()
    env_pb2_grpc.add_EnvironmentServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with connected_environments(f"127.0.0.1:{port}", EnvironmentLimits()) as environments:
        opened = await environments.open(opening("again", n=1))
        assert servicer.opened == 3
        assert (await environments.step(opened.leases[0], 1, "go")).reward == 1.0
        assert servicer.stepped == 3
        await servicer.renewed.wait()
    await server.stop(0)


class AtCapacity(Forgetful):
    """Answers as the service does before a server that takes no second session."""

    async def OpenGroup(self, request, context):
        self.opened += 1
        if self.opened < 20:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "Server at capacity: 1/1 sessions active")
        return env_pb2.OpenGroupResponse(leases=["a"] * request.n, ttl_s=30)

    async def StepBatch(self, request, context):
        self.stepped += 1
        if self.stepped < 10:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the server was lost")
        return env_pb2.StepBatchResponse(results=[env_pb2.StepResult(outcome=env_pb2.Outcome())])


async def test_a_call_that_is_asked_again_for_long_is_told_once_with_its_cause():
    server, servicer, told = grpc.aio.server(), AtCapacity(), []

    async def tell(job_id: str, cause: str) -> None:
        told.append((job_id, cause))

    env_pb2_grpc.add_EnvironmentServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    limits = EnvironmentLimits(tell_after_s=0.1)
    async with connected_environments(f"127.0.0.1:{port}", limits, tell) as environments:
        opening_it = asyncio.create_task(environments.open(opening("full", n=1, job_id="job_1")))
        while not told:
            await asyncio.sleep(0.01)
        while servicer.opened < 6:
            await asyncio.sleep(0.01)
        servicer.opened = 20
        lease = (await opening_it).leases[0]
        asked = "a request to the environment is retried"
        assert told == [("job_1", f"{asked}: open: UNAVAILABLE: Server at capacity: 1/1 sessions active")]
        stepping = asyncio.create_task(environments.step(lease, 1, "go"))
        while len(told) < 2:
            await asyncio.sleep(0.01)
        servicer.stepped = 10
        await stepping
        assert told[1:] == [("job_1", f"{asked}: step 1: UNAVAILABLE: the server was lost")]
    await server.stop(0)


class HangsInReset(Forgetful):
    """Answers as the service does whose environment hung in reset."""

    async def OpenGroup(self, request, context):
        self.opened += 1
        await context.abort(grpc.StatusCode.ABORTED, "reset took too long; its worker was killed")


async def test_a_reset_that_hung_is_a_failed_attempt_and_not_asked_for_again():
    server, servicer = grpc.aio.server(), HangsInReset()
    env_pb2_grpc.add_EnvironmentServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with connected_environments(f"127.0.0.1:{port}", EnvironmentLimits()) as environments:
        with pytest.raises(EnvironmentFault, match=r"environment infra: .*ABORTED: reset took too long"):
            await environments.open(opening("hung"))
    assert servicer.opened == 1
    await server.stop(0)
