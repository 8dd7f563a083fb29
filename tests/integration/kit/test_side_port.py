"""The side port of a process: alive, ready, metrics; also while its event loop hangs."""

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from services.kit import side_port
from services.kit.metrics import gauge
from services.kit.pulse import Turns
from services.kit.side_port import NotReady, SidePort, Sources, observed


@dataclass
class Settings:
    pulse_file: Path | None = None
    metrics_host: str = "127.0.0.1"
    metrics_port: int = 0


def never() -> bool:
    return False


async def get(url: str) -> tuple[int, str]:
    async with httpx.AsyncClient(timeout=30) as client:
        answer = await client.get(url)
    return answer.status_code, answer.text


async def well() -> None:
    """A dependency that answers."""


async def test_a_process_that_works_is_alive_and_ready():
    async with observed(Settings(), Sources({"redis": well}, never)) as url:
        assert await get(f"{url}/livez") == (200, "ok\n")
        assert await get(f"{url}/readyz") == (200, "redis: ok\n")
        assert (await get(f"{url}/elsewhere"))[0] == 404


async def test_a_dependency_that_fails_is_named_and_the_process_lives_on():
    async def away() -> None:
        raise NotReady("no environment service answers")

    async with observed(Settings(), Sources({"redis": well, "env": away}, never)) as url:
        assert await get(f"{url}/readyz") == (503, "redis: ok\nenv: no environment service answers\n")
        assert (await get(f"{url}/livez"))[0] == 200


async def test_a_dependency_that_does_not_answer_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(side_port, "CHECK_S", 0.5)
    waiting = asyncio.Event()

    async with observed(Settings(), Sources({"redis": waiting.wait}, never)) as url:
        assert await get(f"{url}/readyz") == (503, "redis: no answer\n")


async def test_a_process_that_drains_is_alive_and_takes_no_work():
    stop = asyncio.Event()
    async with observed(Settings(), Sources({"redis": well}, stop.is_set)) as url:
        stop.set()
        assert await get(f"{url}/readyz") == (503, "draining\n")
        assert (await get(f"{url}/livez"))[0] == 200


async def test_many_probes_look_at_a_dependency_once(monkeypatch):
    monkeypatch.setattr(side_port, "REMEMBERED_S", 1_000.0)
    looks = 0

    async def counted() -> None:
        nonlocal looks
        looks += 1

    async with observed(Settings(), Sources({"redis": counted}, never)) as url:
        await asyncio.gather(*(get(f"{url}/readyz") for _ in range(5)))
    assert looks == 1


async def test_metrics_hold_the_state_of_now_and_what_is_passed_through():
    sessions = 0.0

    async def engine() -> str:
        return "vllm:num_requests_running 2.0\n"

    sources = Sources({}, never, lambda: [gauge("gigpo_x_sessions", "Sessions.", sessions)], engine)
    async with observed(Settings(), sources) as url:
        sessions = 4.0
        status, text = await get(f"{url}/metrics")
    assert status == 200
    assert {"gigpo_x_sessions 4.0", "vllm:num_requests_running 2.0"} <= set(text.splitlines())


def in_a_loop_that_hangs(ask: Callable[[str], object]) -> object:
    """The answer that `ask` gets from the port of a process whose event loop is held up meanwhile."""
    answer: list[object] = []

    async def serve() -> None:
        async with observed(Settings(), Sources({"redis": well}, never)) as url:
            asking = threading.Thread(target=lambda: answer.append(ask(url)))
            asking.start()
            asking.join()  # the loop stands still

    asyncio.run(serve())
    return answer[0]


def test_while_the_loop_hangs_it_is_not_ready_and_counters_can_be_read(monkeypatch):
    monkeypatch.setattr(side_port, "CHECK_S", 0.2)
    monkeypatch.setattr(side_port, "GRACE_S", 0.2)
    assert in_a_loop_that_hangs(lambda url: httpx.get(f"{url}/readyz", timeout=30).text) == (
        "the event loop does not answer\n"
    )
    assert "process_cpu_seconds_total" in str(
        in_a_loop_that_hangs(lambda url: httpx.get(f"{url}/metrics", timeout=30).text)
    )


async def test_a_loop_that_has_not_turned_for_long_is_dead():
    now = [time.monotonic()]
    turns = Turns(clock=lambda: now[0])
    port = SidePort(Sources({}, never), turns)
    assert port.live() == (200, "ok")
    now[0] += side_port.SILENT_S
    assert port.live() == (503, "the event loop has not turned for 300 s")


async def test_a_port_that_is_taken_is_named():
    async with observed(Settings(), Sources({}, never)) as url:
        taken = int(url.rpartition(":")[2])
        with pytest.raises(OSError, match=f"METRICS_PORT: 127.0.0.1:{taken} cannot be bound"):
            async with observed(Settings(metrics_port=taken), Sources({}, never)):
                pass
