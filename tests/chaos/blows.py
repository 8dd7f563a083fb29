"""Does the faults to a running stack."""

from __future__ import annotations

import os
import resource
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import psutil
from redis.exceptions import RedisError

from tests.chaos.connections import cut_connections
from tests.chaos.faults import CUT_BYTES, DRAINED, SERVICES, STACK, Fault
from tests.chaos.poison import Poison, spoil
from tests.chaos.stack import DISK_FILLER, Stack

Undo = Callable[[], None]
PAUSE_MS, BETWEEN_S = 300, 0.35
DRAIN_S = 120.0
"""A service that takes longer to end was not asked in a way that it understands."""
NOTHING_LEFT = b"\0" * 65_536


class NobodyThere(RuntimeError):
    """The service has no process at the moment: it is being started again."""


def strike(stack: Stack, fault: Fault, job: str, poison: Poison) -> tuple[Undo, str]:
    """Begin a fault; returns what ends it, and a note on what was done. Raises NobodyThere."""
    if fault.kind == "power":
        return _nothing, _power_cut(stack, fault)
    if fault.kind == "upgrade":
        return _nothing, _upgraded(stack)
    if fault.kind == "poison":
        with stack.redis() as redis:
            return _nothing, f"{poison.add(redis, fault.service, job, fault.noise)} entries"
    if fault.kind in ("stranger", "type"):
        with stack.redis() as redis:
            return _nothing, spoil(redis, fault.kind, fault.service, job)
    if fault.kind == "pair":
        return _nothing, _kill_together([_process(stack, fault, part) for part in fault.service.split("+")])
    if fault.kind == "slow":
        return _slow(stack), ""
    if fault.kind == "disk" and fault.service == STACK:
        return _disk_full(stack)
    try:
        return _to_process(fault, _process(stack, fault, fault.service))
    except (psutil.NoSuchProcess, ProcessLookupError) as error:
        raise NobodyThere(fault.service) from error


def _process(stack: Stack, fault: Fault, service: str) -> psutil.Process:
    processes = stack.processes(service)
    if not processes:
        raise NobodyThere(service)
    return processes[fault.instance % len(processes)]


def _kill_together(processes: Sequence[psutil.Process]) -> str:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    return f"processes {', '.join(str(process.pid) for process in processes)}"


def _to_process(fault: Fault, process: psutil.Process) -> tuple[Undo, str]:
    if fault.kind == "cut":
        return _nothing, f"{cut_connections(process)} connections of {process.pid}"
    if fault.kind == "disk":
        return _refused(process), f"process {process.pid}"
    if fault.kind == "kill":
        process.kill()
        return _nothing, f"process {process.pid}"
    process.suspend()

    def go_on() -> None:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGCONT)

    return go_on, f"process {process.pid} for {fault.lasts_s:g} s"


def _nothing() -> None:
    pass


def _disk_full(stack: Stack) -> tuple[Undo, str]:
    if stack.small_disk:
        return _full(stack.data), "the disk of the whole stack"
    others = [process for name in SERVICES if name != "valkey" for process in stack.processes(name)]
    undoing = [_refused(process) for process in others]

    def end() -> None:
        for undo in undoing:
            undo()

    return end, "every process but Redis: this system lets us mount no small disk"


def _power_cut(stack: Stack, fault: Fault) -> str:
    """Everything is dead at once, and what Redis had not synced is lost; then somebody switches it on again."""
    stack.power_cut()
    file = stack.append_only_file()
    lost = CUT_BYTES[fault.noise % len(CUT_BYTES)]
    os.truncate(file, max(file.stat().st_size - lost, 0))
    stack.start()
    return f"{lost} bytes of {file.name} lost"


def _upgraded(stack: Stack) -> str:
    """The second processes work; the first of each service drains, one service after the other."""
    stack.await_seconds()
    took = []
    for service in DRAINED:
        began_s, process = time.monotonic(), stack.processes(service)[0]
        process.terminate()
        process.wait(DRAIN_S)
        took.append(f"{service} {time.monotonic() - began_s:.1f} s")
    return f"drained: {', '.join(took)}"


def _slow(stack: Stack) -> Undo:
    over = threading.Event()

    def pause_again_and_again() -> None:
        with stack.redis() as redis:
            while not over.wait(BETWEEN_S):
                with suppress(RedisError):
                    redis.execute_command("CLIENT PAUSE", PAUSE_MS, "ALL")

    pausing = threading.Thread(target=pause_again_and_again)
    pausing.start()

    def end() -> None:
        over.set()
        pausing.join()

    return end


def _refused(process: psutil.Process) -> Undo:
    """The kernel refuses every byte that the process writes to a file."""
    family = [process.pid, *(child.pid for child in process.children(recursive=True))]
    before = {}
    for pid in family:
        with suppress(ProcessLookupError):
            before[pid] = resource.prlimit(pid, resource.RLIMIT_FSIZE)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, before[pid][1]))

    def end() -> None:
        for pid, limits in before.items():
            with suppress(ProcessLookupError):
                resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)

    return end


def _full(folder: Path) -> Undo:
    """Not one more block is free on the stack's disk; what is given back meanwhile is taken again."""
    over, filler = threading.Event(), folder / DISK_FILLER

    def fill() -> None:
        with filler.open("ab", buffering=0) as file:
            while not over.is_set():
                try:
                    file.write(NOTHING_LEFT)
                except OSError:
                    time.sleep(0.02)

    filling = threading.Thread(target=fill)
    filling.start()

    def end() -> None:
        over.set()
        filling.join()
        filler.unlink()

    return end
