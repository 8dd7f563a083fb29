"""A real API process on real SQLite and Redis, and a small environment service to be asked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import msgspec
from gigpo_proto.env.v1 import env_pb2, env_pb2_grpc
from redis import Redis

from services.api.sync.dispatch import WAITING
from services.contracts import keys
from services.contracts.messages import JobEvent, encode

GRID_SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "properties": {"size": {"type": "integer", "minimum": 2}, "max_turns": {"type": "integer", "minimum": 1}},
}
ENVIRONMENTS = [
    env_pb2.EnvironmentInfo(
        id="grid",
        description="Fetch and carry.",
        kwargs_schema_json=json.dumps(GRID_SCHEMA),
        capabilities=env_pb2.Capabilities(
            deterministic=True, gives_anchors=True, thread_safe=True, cost_class=env_pb2.COST_CLASS_LIGHT
        ),
        default_max_turns=20,
        splits=["train", "test"],
        prompt_template="plain",
        vocabulary=["go", "north", "south", "take", "put"],
    ),
    env_pb2.EnvironmentInfo(id="noise", kwargs_schema_json="{}", splits=["train", "test"], vocabulary=["a"]),
    env_pb2.EnvironmentInfo(id="open", capabilities=env_pb2.Capabilities(gives_anchors=True), splits=["train", "test"]),
    env_pb2.EnvironmentInfo(id="absent", splits=["train"], unavailable_reason="needs a package"),
]


class ListsEnvironments(env_pb2_grpc.EnvironmentServiceServicer):
    """Answers the calls that the API makes."""

    def OpenGroup(self, request: Any, context: Any) -> env_pb2.OpenGroupResponse:
        return env_pb2.OpenGroupResponse(leases=["lease"])

    def Close(self, request: Any, context: Any) -> env_pb2.CloseResponse:
        return env_pb2.CloseResponse(closed=1)

    def ListEnvironments(self, request: Any, context: Any) -> env_pb2.ListEnvironmentsResponse:
        return env_pb2.ListEnvironmentsResponse(environments=ENVIRONMENTS)


@contextmanager
def environment_service(servicer: ListsEnvironments | None = None) -> Iterator[str]:
    """Address of a service that lists `ENVIRONMENTS`."""
    server = grpc.server(ThreadPoolExecutor(2))
    env_pb2_grpc.add_EnvironmentServiceServicer_to_server(servicer or ListsEnvironments(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(0).wait()


@dataclass
class ApiProcess:
    """A running API and where its things are."""

    url: str
    data_dir: Path
    redis_url: str
    process: subprocess.Popen[str]
    metrics: str
    """URL of its side port."""

    def say(self, job: str, kind: str, **content: Any) -> str:
        """Add an event to the job's stream, as the trainer does; returns its stream id. `at_unix_s` is when."""
        with Redis.from_url(self.redis_url) as client:
            event = JobEvent(kind=kind, at_unix_s=content.pop("at_unix_s", 1_000.0), data=content)
            added: Any = client.xadd(keys.events_stream(job), {b"p": encode(event)})
            return bytes(added).decode()

    def queued_jobs(self) -> list[str]:
        """Ids in the trainer's queue, oldest first."""
        with Redis.from_url(self.redis_url) as client:
            messages: Any = client.lrange(f"trainer\x06\x16{WAITING}", 0, -1)  # kombu's key of a priority
        return [_argument(message) for message in reversed(messages)]


def _argument(message: bytes) -> str:
    import base64

    body = json.loads(base64.b64decode(msgspec.json.decode(message)["body"]))
    return str(body[0][0])


def api_environment(data_dir: Path, redis_url: str, env_address: str, **more: str) -> dict[str, str]:
    """Environment variables of an API process."""
    root = Path(__file__).parents[3]
    return {
        **os.environ,
        "PYTHONPATH": f"{root}:{root / 'proto'}",
        "API_DATA_DIR": str(data_dir),
        "API_REDIS_URL": redis_url,
        "API_ENV_ADDRESS": env_address,
        "API_ENGINES": '["transformers", "vllm"]',
        "API_EXPECTED_SERVICES": "[]",
        "API_RECONCILE_S": "0.2",
        **more,
    }


@contextmanager
def running_api(data_dir: Path, redis_url: str, env_address: str, **more: str) -> Iterator[ApiProcess]:
    """An API process that has announced its address; ended by SIGTERM, and killed when it does not obey."""
    process = subprocess.Popen(
        [sys.executable, "-m", "services.api.main"],
        env=api_environment(data_dir, redis_url, env_address, **more),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line, f"the API ended with {process.wait()} before it was ready"
        ready = json.loads(line)
        yield ApiProcess(ready["address"], data_dir, redis_url, process, ready["metrics"])
    finally:
        process.terminate()
        try:
            process.wait(40)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
