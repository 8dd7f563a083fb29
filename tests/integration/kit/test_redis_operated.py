"""Redis as operators run it: with TLS, and with a Sentinel that makes a replica the master."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import Celery
from redis import Redis as SyncRedis
from redis.exceptions import ConnectionError as RedisConnectionError

from services.kit.broker import broker_settings
from services.kit.kombu_layout import waiting_arguments
from services.kit.redis import connect, connect_blocking
from services.kit.streams import StreamConsumer, append
from tests.redis_servers import Watched, answers, certificates, sentinel, server, tls_before, wait_until

PASSWORD = "operated-by-them"
STREAM = "{job}:work"


@pytest.fixture(scope="module")
def tls_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with a password behind TLS; its CA is named."""
    folder = tmp_path_factory.mktemp("tls")
    found = certificates(folder)
    with server(folder / "server", f"requirepass {PASSWORD}") as one:
        wait_until(lambda: answers(one.port, password=PASSWORD))
        with tls_before(one.port, found) as port:
            yield f"rediss://:{PASSWORD}@127.0.0.1:{port}/0?ssl_ca_certs={found.ca}"


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    with sentinel(tmp_path, PASSWORD) as found:
        yield found


def send(url: str, job: str) -> None:
    """Hand a job to the trainer as the API does."""
    with Celery("test", set_as_current=False) as app:
        app.conf.update(task_serializer="json", task_ignore_result=True, **broker_settings(url))
        app.send_task("task", (job,), queue="q")


async def test_services_speak_tls_and_want_a_certificate_of_the_ca(tls_url):
    async with connect(tls_url) as redis:
        await append(redis, STREAM, b"x")
        (entry,) = await StreamConsumer(redis, STREAM, "readers", "a").read(1)
        assert entry.payload == b"x"
    with connect_blocking(tls_url, timeout_s=20) as client:
        assert client.xlen(STREAM) == 1
    for refused in (tls_url.partition("?")[0], tls_url.replace("rediss://", "redis://").partition("?")[0]):
        async with connect(refused, retries=0, timeout_s=5) as redis:
            with pytest.raises(RedisConnectionError):
                await redis.ping()


def test_celery_speaks_tls(tls_url):
    send(tls_url, "j1")
    with connect_blocking(tls_url, timeout_s=20) as client:
        (message,) = client.lrange("q", 0, -1)  # type: ignore[misc]
    assert waiting_arguments(message) == ["j1"]


async def test_every_client_goes_on_at_the_new_master(watched):
    async with connect(watched.url) as redis:
        reader = StreamConsumer(redis, STREAM, "readers", "a")
        await append(redis, STREAM, b"before")
        assert [entry.payload for entry in await reader.read(8)] == [b"before"]
        send(watched.url, "before")
        with SyncRedis(port=watched.master.port, password=PASSWORD) as master:
            assert int(master.execute_command("WAIT", 1, 20_000)) == 1  # the replica has it
        watched.master.process.kill()
        await append(redis, STREAM, b"after")
        assert [entry.payload for entry in await reader.read(8)] == [b"after"]
    send(watched.url, "after")
    with connect_blocking(watched.url, timeout_s=20) as client:
        jobs = [waiting_arguments(message)[0] for message in client.lrange("q", 0, -1)]  # type: ignore[union-attr]
        assert jobs == ["after", "before"]


async def test_a_wrong_password_is_an_error_that_does_not_repeat_it(tls_url):
    async with connect(tls_url.replace(PASSWORD, "another"), retries=0) as redis:
        with pytest.raises(RedisConnectionError) as refused:
            await redis.ping()
    assert "another" not in str(refused.value)
