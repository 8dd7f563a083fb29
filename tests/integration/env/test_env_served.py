"""The service over gRPC with real worker processes: the contract as a client sees it."""

import asyncio
import json

import grpc
import pytest
from env_caller import workers
from gigpo_proto.env.v1 import env_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from gigpo_core.digest import anchor_digest

NOT_FOUND = grpc.StatusCode.NOT_FOUND.value[0]
DEADLINE_EXCEEDED = grpc.StatusCode.DEADLINE_EXCEEDED.value[0]
FAILED_PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION.value[0]


async def test_the_listing_describes_every_environment(served):
    caller = await served()
    listing = (await caller.stub.ListEnvironments(env_pb2.ListEnvironmentsRequest())).environments
    assert [entry.id for entry in listing] == sorted(entry.id for entry in listing)
    by_id = {entry.id: entry for entry in listing}
    assert {"alfworld", "faulty", "grid", "gymnasium", "openenv", "prompts", "search_qa", "sokoban", "webshop"} <= set(
        by_id
    )
    grid = by_id["grid"]
    assert json.loads(grid.kwargs_schema_json)["additionalProperties"] is False
    assert grid.capabilities.deterministic
    assert grid.capabilities.gives_anchors
    assert grid.capabilities.cost_class == env_pb2.COST_CLASS_LIGHT
    assert (grid.default_max_turns, list(grid.splits), grid.prompt_template) == (20, ["train", "test"], "grid/v1")
    assert "stove" in grid.vocabulary
    assert grid.description
    assert all("not installed" in entry.unavailable_reason for entry in listing if entry.unavailable_reason)
    assert not grid.unavailable_reason
    assert json.loads(by_id["gymnasium"].example_kwargs_json)[1] == {"id": "Taxi-v4"}
    assert by_id["openenv"].max_sessions == 512


async def test_a_group_starts_from_one_observation_with_its_keys(served):
    caller = await served(workers=2)
    group = await caller.group("grid", seed=5, n=4)
    seen = group.observation
    assert len(set(group.leases)) == 4
    assert seen.anchor == f"{seen.task} . {seen.text}"
    assert seen.anchor_key == anchor_digest(seen.anchor)
    assert len(seen.state_key) == 16
    assert group.ttl_s == 120.0


async def test_a_task_is_the_same_in_every_worker_and_service(served):
    one, other = await served(workers=2), await served()
    firsts = [(await one.group("grid", seed=seed, n=2)).observation for seed in range(20)]
    again = [(await other.group("grid", seed=seed, n=2)).observation for seed in reversed(range(20))]
    assert firsts == list(reversed(again))


async def test_a_batch_answers_in_order_and_one_bad_lease_does_not_spoil_the_others(served):
    caller = await served(workers=2)
    leases = await caller.open(n=3)
    results = await caller.batch(
        (leases[0], 1, ""), ("nothing", 1, ""), (leases[1], 2, ""), (leases[2], 1, "raise"), (leases[1], 1, "")
    )
    assert [(r.lease, r.seq) for r in results][:3] == [(leases[0], 1), ("nothing", 1), (leases[1], 2)]
    assert results[0].outcome.observation.text == "count 1"
    assert results[1].refusal.code == NOT_FOUND
    assert results[2].refusal.code == FAILED_PRECONDITION
    assert results[3].outcome.fault.fault_class == env_pb2.FAULT_CLASS_ENV_BUG
    assert results[4].outcome.observation.text == "count 1"


async def test_a_batch_runs_side_by_side_over_the_workers(served, tmp_path):
    caller = await served(workers=2)
    leases = await caller.open(n=2)
    gate = tmp_path / "gate"
    waiting = asyncio.create_task(caller.batch((leases[0], 1, f"wait-for {gate}")))
    while not (tmp_path / "gate.reached").exists():
        await asyncio.sleep(0.01)
    other = await caller.step(leases[1], 1)  # its worker is free while the first one is held
    assert other.observation.text == "count 1"
    gate.touch()
    assert (await waiting)[0].outcome.observation.text == "count 1"


def asked(*leases: str, seq: int) -> env_pb2.StepBatchRequest:
    return env_pb2.StepBatchRequest(steps=[env_pb2.StepRequest(lease=lease, seq=seq) for lease in leases])


async def test_a_stream_answers_each_step_as_it_is_ready(served):
    caller = await served()
    leases = await caller.open(n=8)
    stream = caller.stub.StepStream()
    turns = dict.fromkeys(leases, 0)
    await stream.write(asked(*leases, seq=1))
    async for ready in stream:
        for result in ready.results:
            assert result.outcome.observation.text == f"count {result.seq}"
            turns[result.lease] = result.seq
            if result.seq < 5:
                await stream.write(asked(result.lease, seq=result.seq + 1))
        if min(turns.values()) == 5:
            await stream.done_writing()
    assert turns == dict.fromkeys(leases, 5)


async def test_a_slow_step_of_a_stream_keeps_nobody_waiting(served, tmp_path):
    caller = await served(workers=2)
    slow, quick = await caller.open(n=2)
    stream = caller.stub.StepStream()
    gate = tmp_path / "gate"
    held = env_pb2.StepRequest(lease=slow, seq=1, action=f"wait-for {gate}")
    await stream.write(env_pb2.StepBatchRequest(steps=[held, env_pb2.StepRequest(lease=quick, seq=1)]))
    first = await stream.read()
    assert [result.lease for result in first.results] == [quick]
    gate.touch()
    assert [result.lease for result in (await stream.read()).results] == [slow]
    await stream.done_writing()


async def test_steps_that_take_too_long_are_told_so_and_their_answers_can_be_fetched(served, tmp_path):
    caller = await served(call_timeout_s=0.5, step_timeout_s=60.0)
    leases = await caller.open(n=2)
    gate = tmp_path / "gate"
    steps = [env_pb2.StepRequest(lease=lease, seq=1, action=f"wait-for {gate}") for lease in leases]
    stream = caller.stub.StepStream()
    await stream.write(env_pb2.StepBatchRequest(steps=steps[:1]))
    streamed = (await stream.read()).results
    batched = (await caller.stub.StepBatch(env_pb2.StepBatchRequest(steps=steps))).results
    assert [result.refusal.code for result in (*streamed, *batched)] == [DEADLINE_EXCEEDED] * 3
    gate.touch()
    while (result := (await caller.batch((leases[1], 1, "")))[0]).HasField("refusal"):
        assert result.refusal.code == DEADLINE_EXCEEDED
    assert result.outcome.observation.text == "count 1"
    assert (await caller.step(leases[0], 1)).score == 1.0
    await stream.done_writing()
    assert await stream.read() is grpc.aio.EOF


async def test_a_message_of_a_stream_that_is_too_long_ends_it_after_what_came_before(served):
    caller = await served(max_batch_steps=2)
    leases = await caller.open(n=3)
    stream = caller.stub.StepStream()
    await stream.write(asked(leases[0], seq=1))
    await stream.write(asked(*leases, seq=1))
    assert [result.lease for result in (await stream.read()).results] == leases[:1]
    with pytest.raises(grpc.aio.AioRpcError, match="steps: want at most 2, got 3"):
        await stream.read()
    assert (await caller.step(leases[1], 1)).observation.text == "count 1"


async def test_a_stream_that_is_dropped_disturbs_nobody(served):
    caller = await served()
    leases = await caller.open(n=2)
    stream = caller.stub.StepStream()
    await stream.write(asked(leases[0], seq=1))
    await stream.read()
    stream.cancel()
    assert (await caller.step(leases[0], 2)).observation.text == "count 2"
    assert (await caller.step(leases[1], 1)).observation.text == "count 1"


async def test_a_whole_episode_of_the_grid_is_played(served):
    caller = await served()
    group = await caller.group("grid", kwargs_json='{"size": [2], "walls": [0]}')
    seen, lease = group.observation, group.leases[0]
    for seq in range(1, 21):
        words = seen.text.split(" . ")
        thing = seen.task.split()[1 if "hold nothing" in seen.text else 3]
        where = next(part for part in words if part.startswith(f"{thing} ")).split()
        verb = "take" if "hold nothing" in seen.text else "put"
        action = f"{verb} {seen.task.split()[1]}" if where[1] == "here" else f"go {where[2]}"
        outcome = await caller.step(lease, seq, action)
        assert outcome.action_valid
        seen = outcome.observation
        if outcome.terminated:
            break
    assert (outcome.won, outcome.reward, outcome.score, outcome.truncated) == (True, 1.0, 1.0, False)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await caller.step(lease, seq + 1, "go north")
    assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION


async def test_gymnasium_is_served_and_its_wrong_ids_are_the_callers_mistake(served):
    caller = await served()
    leases = await caller.open("gymnasium", kwargs_json='{"id": "FrozenLake-v1", "options": {"is_slippery": false}}')
    assert (await caller.step(leases[0], 1, "down")).observation.text.endswith("red: F, line 2, column 1")
    for kwargs in ("", '{"id": "Nothing-v1"}'):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await caller.open("gymnasium", kwargs_json=kwargs)
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "id" in refused.value.details()


@pytest.mark.parametrize(
    ("request_fields", "code", "wanted"),
    [
        ({"environment": "nothing"}, grpc.StatusCode.NOT_FOUND, "nothing"),
        ({"kwargs_json": '{"sise": [3]}'}, grpc.StatusCode.INVALID_ARGUMENT, "sise"),
        ({"split": "dev"}, grpc.StatusCode.INVALID_ARGUMENT, "split"),
        ({"n": 0}, grpc.StatusCode.INVALID_ARGUMENT, "n: want"),
        ({"idempotency_key": ""}, grpc.StatusCode.INVALID_ARGUMENT, "idempotency_key"),
    ],
)
async def test_a_bad_opening_is_refused_with_the_name_of_the_field(served, request_fields, code, wanted):
    caller = await served()
    good = {"idempotency_key": "a", "environment": "grid", "n": 1}
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await caller.stub.OpenGroup(env_pb2.OpenGroupRequest(**{**good, **request_fields}))
    assert refused.value.code() is code
    assert wanted in refused.value.details()


async def test_opening_is_idempotent_by_its_key(served):
    caller = await served()
    first, again = await asyncio.gather(*(caller.open(key="same", n=3) for _ in range(2)))
    assert first == again
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await caller.open(key="same", n=4)
    assert refused.value.code() is grpc.StatusCode.ALREADY_EXISTS


async def test_an_oversized_action_or_batch_is_refused_and_the_service_goes_on(served):
    caller = await served(max_batch_steps=2)
    lease = (await caller.open())[0]
    for call in (caller.step(lease, 1, "x" * 300_000), caller.batch(*[(lease, 1, "")] * 3)):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert (await caller.step(lease, 1)).observation.text == "count 1"


async def test_a_full_service_says_when_to_ask_again(served):
    caller = await served(max_leases=2)
    await caller.open(n=2)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await caller.open()
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert 100 <= int(dict(refused.value.trailing_metadata())["retry-after-ms"]) <= 5000


async def test_a_lease_expires_unless_it_is_renewed(served):
    caller = await served(lease_ttl_s=0.4)
    kept, left = await caller.open(n=2)
    for _ in range(6):
        await asyncio.sleep(0.1)
        assert (await caller.stub.Renew(env_pb2.RenewRequest(leases=[kept]))).unknown == []
    assert (await caller.stub.Renew(env_pb2.RenewRequest(leases=[kept, left]))).unknown == [left]
    assert (await caller.batch((left, 1, "")))[0].refusal.code == NOT_FOUND
    assert (await caller.step(kept, 1)).observation.text == "count 1"


async def test_closing_is_idempotent(served):
    caller = await served()
    leases = await caller.open(n=3)
    request = env_pb2.CloseRequest(leases=[*leases, "nothing"])
    assert (await caller.stub.Close(request)).closed == 3
    assert (await caller.stub.Close(request)).closed == 0
    assert (await caller.batch((leases[0], 1, "")))[0].refusal.code == NOT_FOUND


async def test_health_and_reflection_answer(served):
    caller = await served()
    async with grpc.aio.insecure_channel(caller.address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for name in ("", "gigpo.env.v1.EnvironmentService"):
            answer = await health.Check(health_pb2.HealthCheckRequest(service=name))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        asked = reflection_pb2.ServerReflectionRequest(list_services="")
        call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter([asked]))
        names = {service.name async for reply in call for service in reply.list_services_response.service}
        assert "gigpo.env.v1.EnvironmentService" in names


async def test_invalid_bytes_are_refused_and_the_service_goes_on(served):
    caller = await served()
    async with grpc.aio.insecure_channel(caller.address) as channel:
        raw = channel.unary_unary("/gigpo.env.v1.EnvironmentService/Step")
        for body in (b"\xff\xff\xff", b"\x0a\x02\xc3\x28"):
            with pytest.raises(grpc.aio.AioRpcError):
                await raw(body)
    assert await caller.open()


async def test_a_worker_is_replaced_after_its_number_of_episodes_and_its_sessions_go_on(served):
    caller = await served(episodes_per_worker=4, max_leases=8)
    before = {worker.pid for worker in workers()}
    leases = await caller.open(n=4)
    others = await caller.open(n=2)
    results = await caller.batch(*((lease, 1, "") for lease in (*leases, *others)))
    assert [result.outcome.observation.text for result in results] == ["count 1"] * 6
    await caller.stub.Close(env_pb2.CloseRequest(leases=leases))
    while before & {worker.pid for worker in workers()}:
        await asyncio.sleep(0.02)
    assert (await caller.step(others[0], 2)).observation.text == "count 2"
