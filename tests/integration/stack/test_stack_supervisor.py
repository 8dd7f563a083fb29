"""The supervisor on small real processes: order, readiness, crashes, deadlines, and no orphans."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import pytest

from services.kit.process import free_port
from services.stack.child import ServicePlan, StartFailed
from services.stack.main import say, start_and_watch
from services.stack.record import RECORD, AlreadyHeld, held_folder, write_record
from services.stack.settings import Settings
from services.stack.supervisor import RestartLimits, Supervisor

STAND_IN = str(Path(__file__).with_name("stand_in.py"))
QUICK = RestartLimits(first_wait_s=0.05, longest_wait_s=0.1, restarts=2)


def plan(name: str, folder: Path, mode: str = "", **limits: Any) -> ServicePlan:
    def variables(addresses: Mapping[str, str]) -> dict[str, str]:
        return {"PORT": addresses[name].rpartition(":")[2] if name in addresses else str(free_port())}

    command = [sys.executable, STAND_IN, name, str(folder), *([mode] if mode else [])]
    return ServicePlan(name, command, variables, **({"stop_s": 5.0, "start_s": 30.0} | limits))


def alive(pid: int) -> bool:
    with suppress(OSError):
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state not in "ZX"
    return False


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.05)


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


async def test_the_keys_of_the_installation_reach_the_api_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("API_KEY", "API_DATABASE_URL", "GIGPO_API_KEY"):
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("ENV_SERVICE_X", "x")
    supervisor = Supervisor([[plan("env", tmp_path), plan("api", tmp_path)]], tmp_path / "logs", lambda _: None)
    await supervisor.start()
    held = {name: Path(f"/proc/{pid}/environ").read_bytes() for name, pid in supervisor.pids().items()}
    await supervisor.stop(asyncio.Event())
    assert b"secret" not in held["env"]
    assert b"ENV_SERVICE_X=x" in held["env"]
    assert b"API_KEY=secret" in held["api"]


async def test_services_start_stage_by_stage_and_stop_in_reverse(tmp_path: Path) -> None:
    supervisor = Supervisor(
        [[plan("a", tmp_path)], [plan("b", tmp_path)], [plan("c", tmp_path)]], tmp_path / "logs", lambda _: None
    )
    await supervisor.start()
    assert [line.split()[0] for line in lines(tmp_path / "starts")] == ["a", "b", "c"]
    assert set(supervisor.addresses) == {"a", "b", "c"}
    await supervisor.stop(asyncio.Event())
    assert lines(tmp_path / "stops") == ["c", "b", "a"]
    assert not any(alive(pid) for pid in supervisor.pids().values())


async def test_the_record_names_the_process_that_runs_now(tmp_path: Path) -> None:
    supervisor = Supervisor([[plan("api", tmp_path)]], tmp_path / "logs", lambda _: None, QUICK)

    def recorded() -> dict[str, int]:
        with suppress(OSError, ValueError):
            return dict(json.loads((tmp_path / RECORD).read_text()))
        return {}

    running = asyncio.create_task(start_and_watch(supervisor, dict, Settings(data_dir=tmp_path)))
    await until(lambda: bool(recorded()))
    first = recorded()["api"]
    os.kill(first, signal.SIGKILL)
    await until(lambda: recorded()["api"] != first)
    assert recorded() == supervisor.pids()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await supervisor.stop(asyncio.Event())


async def test_a_crashed_service_is_started_again_where_it_was(tmp_path: Path) -> None:
    said: list[str] = []
    supervisor = Supervisor([[plan("a", tmp_path, "crash-once")]], tmp_path / "logs", said.append, QUICK)
    await supervisor.start()
    address = supervisor.addresses["a"]
    await until(lambda: len(lines(tmp_path / "starts")) == 2 and any("ready" in line for line in said[2:]))
    assert supervisor.addresses["a"] == address
    assert any("a ended with 7; restart 1" in line for line in said)
    assert "something broke" in (tmp_path / "logs" / "a.log").read_text()
    await supervisor.stop(asyncio.Event())


@pytest.fixture
def full() -> Iterator[IO[str]]:
    """A file that takes nothing: its disk is full."""
    file = open("/dev/full", "w")  # noqa: SIM115 - to close it fails
    yield file
    with suppress(OSError):
        file.close()


async def test_a_full_disk_ends_no_stack_and_keeps_no_service_from_being_ready(
    tmp_path: Path, full: IO[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "a.log").symlink_to("/dev/full")
    monkeypatch.setattr(sys, "stdout", full)  # as of a stack in the background, whose words go to a file
    supervisor = Supervisor([[plan("a", tmp_path, "crash-once")]], tmp_path / "logs", say, QUICK)
    try:
        await supervisor.start()
        watching = asyncio.create_task(supervisor.watch())
        await until(lambda: len(lines(tmp_path / "starts")) == 2 or watching.done())
        last = int(lines(tmp_path / "starts")[-1].split()[1])
        assert (watching.done(), alive(last), supervisor.pids()) == (False, True, {"a": last})
        watching.cancel()
    finally:
        await supervisor.stop(asyncio.Event())


def beating(name: str, folder: Path, mode: str) -> ServicePlan:
    """A stand-in that gives signs of life in a file."""
    pulse = folder / f"{name}.pulse"
    command = [sys.executable, STAND_IN, name, str(folder), mode]
    return ServicePlan(name, command, lambda _: {"PULSE_FILE": str(pulse)}, stop_s=5.0, start_s=30.0, pulse=pulse)


async def test_a_service_that_hangs_is_killed_and_started_again_and_one_that_computes_is_not(tmp_path: Path) -> None:
    said: list[str] = []
    changed: list[bool] = []
    limits = RestartLimits(first_wait_s=0.05, longest_wait_s=0.1, hung_looks=3)
    plans = [beating("stopped", tmp_path, "pulse"), beating("busy", tmp_path, "busy")]
    supervisor = Supervisor([plans], tmp_path / "logs", said.append, limits)
    supervisor.restarted = lambda: changed.append(True)
    await supervisor.start()
    before = supervisor.pids()
    await until(lambda: (tmp_path / "stopped.pulse").exists())
    os.kill(before["stopped"], signal.SIGSTOP)
    await until(lambda: supervisor.pids()["stopped"] != before["stopped"])
    await until(lambda: bool(changed) and (tmp_path / "busy.computed").exists())
    assert supervisor.pids()["busy"] == before["busy"]
    assert sum("stopped hung, without a sign of life for 3 s, and was killed; restart 1" in line for line in said) == 1
    assert not alive(before["stopped"])
    await supervisor.stop(asyncio.Event())


async def test_a_server_that_does_not_answer_is_killed_and_started_again(tmp_path: Path) -> None:
    said: list[str] = []
    silent = tmp_path / "silent"
    answering = ServicePlan(
        "valkey", [sys.executable, STAND_IN, "valkey", str(tmp_path)], lives=lambda: not silent.exists()
    )
    supervisor = Supervisor([[answering]], tmp_path / "logs", said.append, RestartLimits(hung_looks=2))
    await supervisor.start()
    silent.touch()
    await until(lambda: any("valkey hung" in line for line in said))
    silent.unlink()
    await starts_of("valkey", tmp_path, 2)
    await supervisor.stop(asyncio.Event())


async def starts_of(name: str, folder: Path, count: int) -> None:
    await until(lambda: [line.split()[0] for line in lines(folder / "starts")].count(name) >= count)


@pytest.mark.parametrize("mode", ["crash-always", "broken"])
async def test_a_service_that_keeps_crashing_is_tried_again_and_takes_no_other_one_down(
    tmp_path: Path, mode: str
) -> None:
    said: list[str] = []
    supervisor = Supervisor([[plan("a", tmp_path, mode), plan("b", tmp_path)]], tmp_path / "logs", said.append, QUICK)
    await supervisor.start()
    watching = asyncio.create_task(supervisor.watch())
    await starts_of("a", tmp_path, QUICK.restarts + 4)
    assert not watching.done()
    assert alive(supervisor.pids()["b"])
    assert [line.split()[0] for line in lines(tmp_path / "starts")].count("b") == 1
    assert sum("a crashed 3 times in a row; the others go on without it" in line for line in said) == 1
    assert not any("restart 3" in line for line in said)
    (tmp_path / "mended").touch()
    await until(lambda: bool(said) and said[-1].startswith("a ready"))
    await supervisor.stop(asyncio.Event())
    await asyncio.gather(watching, return_exceptions=True)
    assert not any(alive(pid) for pid in supervisor.pids().values())


async def test_a_service_that_never_gets_ready_is_named_with_its_log_while_the_others_work(tmp_path: Path) -> None:
    said: list[str] = []
    plans = [plan("a", tmp_path, "silent", start_s=1.0), plan("b", tmp_path)]
    supervisor = Supervisor([plans], tmp_path / "logs", said.append, QUICK)
    await supervisor.start()
    assert any("a was silent for 1 s" in line for line in said)
    assert alive(supervisor.pids()["b"])
    await starts_of("a", tmp_path, 2)
    await supervisor.stop(asyncio.Event())
    assert not any(alive(pid) for pid in supervisor.pids().values())


async def test_a_stack_does_not_come_up_without_a_service_that_the_others_need(tmp_path: Path) -> None:
    needed = plan("a", tmp_path, "silent", start_s=1.0, needed=True)
    supervisor = Supervisor([[needed], [plan("b", tmp_path)]], tmp_path / "logs", lambda _: None)
    with pytest.raises(StartFailed, match="a was silent for 1 s"):
        await supervisor.start()
    await supervisor.stop(asyncio.Event())
    assert [line.split()[0] for line in lines(tmp_path / "starts")] == ["a"]


async def test_a_deaf_service_is_killed_and_so_is_what_it_started(tmp_path: Path) -> None:
    said: list[str] = []
    plans = [plan("deaf", tmp_path, "deaf", stop_s=0.3), plan("parent", tmp_path, "with-child")]
    supervisor = Supervisor([plans], tmp_path / "logs", said.append)
    await supervisor.start()
    await supervisor.stop(asyncio.Event())
    assert "deaf did not stop in time and was killed" in said
    grandchild = int((tmp_path / "grandchild").read_text())
    await until(lambda: not alive(grandchild))


async def test_a_second_signal_does_not_wait_for_deadlines(tmp_path: Path) -> None:
    supervisor = Supervisor([[plan("deaf", tmp_path, "deaf", stop_s=600.0)]], tmp_path / "logs", lambda _: None)
    await supervisor.start()
    hurry = asyncio.Event()
    hurry.set()
    await asyncio.wait_for(supervisor.stop(hurry), 20)
    assert not any(alive(pid) for pid in supervisor.pids().values())


HOLDS_TWO = """
import asyncio, sys
from pathlib import Path
from services.stack.child import ServicePlan
from services.stack.supervisor import Supervisor
async def main():
    stand_in, folder = sys.argv[1], Path(sys.argv[2])
    command = [sys.executable, stand_in]
    plans = [ServicePlan("a", [*command, "a", str(folder)]), ServicePlan("b", [*command, "b", str(folder), "deaf"])]
    supervisor = Supervisor([plans], folder / "logs", lambda _: None)
    await supervisor.start()
    (folder / "up").touch()
    await supervisor.watch()
asyncio.run(main())
"""


RUNS_ONE = """
import asyncio, sys
from pathlib import Path
from services.stack.child import ServicePlan
from services.stack.main import run_until_stopped, say
from services.stack.settings import Settings
from services.stack.supervisor import Supervisor
stand_in, folder = sys.argv[1], Path(sys.argv[2])
plan = ServicePlan("api", [sys.executable, stand_in, "api", str(folder)])
supervisor = Supervisor([[plan]], folder / "logs", say)
supervisor.addresses["api"] = "http://127.0.0.1:1"
sys.exit(asyncio.run(run_until_stopped(supervisor, lambda pids: {}, Settings(data_dir=folder))))
"""


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
async def test_a_stack_that_ctrl_c_stops_says_so_by_its_exit_status(tmp_path: Path, number: int, status: int) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    stack = subprocess.Popen([sys.executable, "-c", RUNS_ONE, STAND_IN, str(tmp_path)], env=environment)
    await until((tmp_path / "stack.json").exists)
    stack.send_signal(number)
    assert await asyncio.to_thread(stack.wait, 60) == status


async def test_killing_the_supervisor_leaves_no_process_not_even_a_deaf_one(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDS_TWO, STAND_IN, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    supervisor = subprocess.Popen(command, env=environment)
    await until((tmp_path / "up").exists)
    pids = {name: int(pid) for name, pid in (line.split() for line in lines(tmp_path / "starts"))}
    assert all(alive(pids[name]) for name in ("a", "b"))
    supervisor.send_signal(signal.SIGKILL)
    supervisor.wait()
    await until(lambda: not alive(pids["a"]))  # the kernel's word is enough for it
    await until(lambda: not alive(pids["b"]))


def test_a_folder_has_one_holder_and_the_second_learns_who(tmp_path: Path) -> None:
    with held_folder(tmp_path):
        write_record(tmp_path, {"pid": 1, "api_url": "http://127.0.0.1:8400"})
        sentence = f"process {os.getpid()}, API http://127.0.0.1:8400"
        with pytest.raises(AlreadyHeld, match=sentence), held_folder(tmp_path):
            raise AssertionError("held twice")
    with held_folder(tmp_path):
        assert not (tmp_path / "stack.json").exists()


def test_a_stack_whose_folder_takes_nothing_says_so_in_one_sentence(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3]), "STACK_DATA_DIR": str(tmp_path)}
    stack = subprocess.run(
        [sys.executable, "-m", "services.stack.main"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)),
    )
    sentence = f"stack: no file can be written in {tmp_path}: File too large\n"
    assert (stack.returncode, stack.stderr) == (2, sentence)


def test_a_refused_second_stack_says_who_holds_the_folder(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3]), "STACK_DATA_DIR": str(tmp_path)}
    with held_folder(tmp_path):
        began = time.monotonic()
        second = subprocess.run(
            [sys.executable, "-m", "services.stack.main"], env=environment, capture_output=True, text=True, timeout=60
        )
    assert second.returncode == 2, time.monotonic() - began
    assert f"process {os.getpid()}" in second.stderr
