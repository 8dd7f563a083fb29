"""Strange calls of a client get a proper status with a sentence, and the service goes on as before."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from gigpo_proto.env.v1 import env_pb2, env_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from services.env.settings import Settings

HERE = Path(__file__).parent
METHODS = [method.name for method in env_pb2.DESCRIPTOR.services_by_name["EnvironmentService"].methods]
EVER = 60.0
MOST = Settings().max_action_bytes
fuzzed = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
text = st.text(max_size=40)
uint32, uint64 = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)
json_value = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=5,
)


@dataclass
class Fuzzed:
    """A service of its own process, and one session in it that must never notice anything."""

    channel: grpc.Channel
    stub: Any
    family: list[int]
    control: str
    seq: int = 0

    def refused(self, code: grpc.StatusCode, method: str, request: Any) -> str:
        """The sentence of a refusal."""
        with pytest.raises(grpc.RpcError) as refused:
            getattr(self.stub, method)(request, timeout=EVER)
        assert refused.value.code() is code, refused.value
        assert refused.value.details()
        return refused.value.details()

    def goes_on(self) -> None:
        """Check that the processes are the same, still serve, and that the control session is where it was."""
        self.seq += 1
        request = env_pb2.StepRequest(lease=self.control, seq=self.seq, action="go on")
        outcome = self.stub.Step(request, timeout=EVER).outcome
        assert outcome.observation.text == f"count {self.seq}"
        health = health_pb2_grpc.HealthStub(self.channel).Check(health_pb2.HealthCheckRequest(), timeout=EVER)
        assert health.status == health_pb2.HealthCheckResponse.SERVING
        assert sorted(child.pid for child in psutil.Process(self.family[0]).children()) == self.family[1:]


@pytest.fixture(scope="module")
def fuzz() -> Iterator[Fuzzed]:
    variables = {
        "ENV_SERVICE_EXTRA_ENVIRONMENTS": '{"faulty": "faulty_environment:Faulty"}',
        "ENV_SERVICE_DRAIN_S": "0",
        "ENV_SERVICE_MAX_LEASES": "64",
        "PYTHONPATH": os.pathsep.join([str(HERE), *(path for path in sys.path if path)]),
    }
    command = [sys.executable, "-m", "services.env.main"]
    with subprocess.Popen(command, env=os.environ | variables, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = json.loads(process.stdout.readline())["address"]
        with grpc.insecure_channel(address) as channel:
            stub = env_pb2_grpc.EnvironmentServiceStub(channel)
            request = env_pb2.OpenGroupRequest(
                idempotency_key="control", environment="faulty", n=1, kwargs_json='{"max_turns": 100000}'
            )
            (lease,) = stub.OpenGroup(request, timeout=EVER).leases
            workers = sorted(child.pid for child in psutil.Process(process.pid).children())
            yield Fuzzed(channel, stub, [process.pid, *workers], lease)
        process.terminate()
        assert process.wait(timeout=60) == 0
        assert (
            psutil.wait_procs([psutil.Process(pid) for pid in workers if psutil.pid_exists(pid)], timeout=30)[1] == []
        )


def _is_message(method: str, body: bytes) -> bool:
    requests = env_pb2.DESCRIPTOR.services_by_name["EnvironmentService"].methods_by_name
    try:
        getattr(env_pb2, requests[method].input_type.name).FromString(body)
    except Exception:  # noqa: BLE001 - whatever does not parse
        return False
    return True


@fuzzed
@given(method=st.sampled_from(METHODS), body=st.binary(min_size=1, max_size=60))
@example(method="Step", body=b"\x0a\x02\xc3\x28")  # a string that is no UTF-8
@example(method="OpenGroup", body=b"\x12\x02\xff\xfe")
@example(method="StepBatch", body=b"\xff" * 20)
@example(method="StepStream", body=b"\xff" * 20)
def test_bytes_that_are_no_message_are_the_callers_mistake(fuzz, method, body):
    path = f"/gigpo.env.v1.EnvironmentService/{method}"
    if method == "StepStream":
        error = _error(lambda: list(fuzz.channel.stream_stream(path)(iter([body]), timeout=EVER)))
    else:
        error = _error(lambda: fuzz.channel.unary_unary(path)(body, timeout=EVER))
    if _is_message(method, body):
        assert error is None or error.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND)
    else:
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "is no message of /gigpo.env.v1" in error.details()
    fuzz.goes_on()


def _error(call: Callable[[], object]) -> Any:
    """The error that a call raises; None where it is answered."""
    try:
        call()
    except grpc.RpcError as error:
        return error
    return None


@fuzzed
@given(name=text.filter(lambda name: name not in ("faulty", "grid", "alfworld")), seed=uint64, split=text, n=uint32)
@example(name="gird", seed=2**64 - 1, split="", n=1)
@example(name="\u2603" * 4000, seed=0, split="", n=1)
def test_an_unknown_environment_is_not_found(fuzz, name, seed, split, n):
    request = env_pb2.OpenGroupRequest(idempotency_key="a", environment=name, seed=seed, split=split, n=max(1, n % 64))
    assert "unknown environment" in fuzz.refused(grpc.StatusCode.NOT_FOUND, "OpenGroup", request)
    fuzz.goes_on()


@fuzzed
@given(key=text.filter(lambda key: key not in ("max_turns", "size", "walls", "items", "goal")), value=json_value)
@example(key="sise", value=[3])
@example(key="a.b", value=None)
def test_an_unknown_key_of_kwargs_is_named(fuzz, key, value):
    kwargs = json.dumps({key: value}, allow_nan=False, default=str) if _finite(value) else json.dumps({key: 0})
    request = env_pb2.OpenGroupRequest(idempotency_key="b", environment="grid", n=1, kwargs_json=kwargs)
    if key in ("furniture", "invalid_reward", "practice"):
        return
    assert key in fuzz.refused(grpc.StatusCode.INVALID_ARGUMENT, "OpenGroup", request)
    fuzz.goes_on()


def _finite(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        return False
    return True


@fuzzed
@given(kwargs=text | json_value.map(lambda value: json.dumps(value)))
@example(kwargs="\r")
@example(kwargs="[" * 10_000)
@example(kwargs="{" + ",".join(f'"key{number}": 0' for number in range(3000)) + "}")
@example(kwargs='{"max_turns": 1e400}')
def test_kwargs_that_are_no_object_of_the_schema_are_refused(fuzz, kwargs):
    request = env_pb2.OpenGroupRequest(idempotency_key="c", environment="grid", n=1, kwargs_json=kwargs)
    if kwargs == "" or kwargs.strip(" \t\r\n") == "{}":  # JSON's own white space
        fuzz.stub.Close(env_pb2.CloseRequest(leases=fuzz.stub.OpenGroup(request, timeout=EVER).leases), timeout=EVER)
    else:
        fuzz.refused(grpc.StatusCode.INVALID_ARGUMENT, "OpenGroup", request)
    fuzz.goes_on()


@fuzzed
@given(lease=text, seq=uint32, action=text)
def test_a_step_on_a_lease_that_never_was_is_not_found(fuzz, lease, seq, action):
    step = env_pb2.StepRequest(lease=lease, seq=seq, action=action)
    assert "lease" in fuzz.refused(grpc.StatusCode.NOT_FOUND, "Step", step)
    (result,) = fuzz.stub.StepBatch(env_pb2.StepBatchRequest(steps=[step]), timeout=EVER).results
    assert result.refusal.code == grpc.StatusCode.NOT_FOUND.value[0]
    assert fuzz.stub.Renew(env_pb2.RenewRequest(leases=[lease]), timeout=EVER).unknown == [lease]
    assert fuzz.stub.Close(env_pb2.CloseRequest(leases=[lease]), timeout=EVER).closed == 0
    fuzz.goes_on()


@fuzzed
@given(action=text, length=st.integers(MOST + 1, 4 * MOST))
@example(action="\u2603", length=MOST // 3 + 1)
def test_an_oversized_action_is_refused_and_takes_no_step(fuzz, action, length):
    action = (action or "x") * (length // len(action or "x") + 1)
    step = env_pb2.StepRequest(lease=fuzz.control, seq=fuzz.seq + 1, action=action)
    assert f"action: want at most {MOST} bytes" in fuzz.refused(grpc.StatusCode.INVALID_ARGUMENT, "Step", step)
    rebuild = env_pb2.RebuildRequest(
        start=env_pb2.OpenGroupRequest(idempotency_key="d", environment="faulty", n=1), actions=["", action]
    )
    assert "actions[1]" in fuzz.refused(grpc.StatusCode.INVALID_ARGUMENT, "Rebuild", rebuild)
    fuzz.goes_on()


@fuzzed
@given(environment=st.sampled_from(["grid", "alfworld"]), seed=uint64, actions=st.lists(text, max_size=3))
@example(environment="grid", seed=2**64 - 1, actions=["\x00", "go north\n", "\u202e"])
def test_any_seed_opens_and_any_action_is_answered(fuzz, environment, seed, actions):
    request = env_pb2.OpenGroupRequest(idempotency_key="e", environment=environment, n=2, seed=seed)
    leases = fuzz.stub.OpenGroup(request, timeout=EVER).leases
    for seq, action in enumerate(actions, start=1):
        outcome = fuzz.stub.Step(env_pb2.StepRequest(lease=leases[0], seq=seq, action=action), timeout=EVER).outcome
        assert not outcome.HasField("fault")
        assert outcome.observation.text
    fuzz.stub.Close(env_pb2.CloseRequest(leases=leases), timeout=EVER)
    fuzz.goes_on()


def test_a_message_beyond_the_limit_is_refused_and_the_connection_lives(fuzz):
    step = env_pb2.StepRequest(lease=fuzz.control, seq=fuzz.seq + 1, action="x" * (65 * 2**20))
    fuzz.refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "Step", step)
    fuzz.goes_on()
