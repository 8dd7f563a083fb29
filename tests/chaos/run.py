"""One run: a quiet job, the same job with faults, and the checks of the second beside the first."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

from tests.chaos.blows import NobodyThere, Undo, strike
from tests.chaos.checks import Check, Remains, all_checks
from tests.chaos.faults import EPISODE_SERVICES, STACK, Fault, batches_for
from tests.chaos.job import ObservedJob
from tests.chaos.poison import Poison
from tests.chaos.recovery import UNPLAYED, Look, Struck, groups_in
from tests.chaos.stack import LEASE_TTL_S, Stack
from tests.chaos.table import Machine

LOOK_EVERY_S = 0.1
TELL_EVERY = 5
"""Batches of the quiet job between two lines of progress."""
AT_WORK_WITHIN_S = 10.0
"""A service of the episodes is struck while it plays, if that comes soon."""
Say = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """Arguments of a run."""

    seed: int
    faults: Sequence[Fault]
    engine: str = "transformers"
    minutes: float = 20.0
    """Longest the struck job may take."""
    two: bool = False
    """Two processes of every service."""


@dataclass
class Outcome:
    """Result of a run."""

    struck: list[Struck] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    machine: Machine | None = None


def run(plan: Plan, folder: Path, say: Say) -> Outcome:
    """Start a platform in `folder`, run both jobs, check, and leave no process behind. Raises StackFailed."""
    small_disk = any((fault.kind, fault.service) == ("disk", STACK) for fault in plan.faults)
    stack = Stack(folder, plan.engine, two=plan.two, small_disk=small_disk)
    load_before, batches = os.getloadavg()[0], batches_for(plan.faults)
    try:
        say("starting the stack")
        stack.start()
        say(f"a quiet job of {batches} batches")
        quiet, quiet_batch_s = _run_quietly(stack, plan, batches, say)
        say("the same job with faults")
        session = _Session(stack, plan, batches, say)
        session.run()
        say("checking")
        remains = session.job.remains(session.poison)
        _wait_for_leases(session.struck)
        left = stack.stop() + _leases_left(stack)
    finally:
        stack.release()
    remains = replace(remains, left_over=[*remains.left_over, *left])
    machine = Machine(os.cpu_count() or 1, load_before, os.getloadavg()[0], plan.engine, quiet_batch_s)
    return Outcome(session.struck, all_checks(remains, quiet, session.job.shape), machine)


def _run_quietly(stack: Stack, plan: Plan, batches: int, say: Say) -> tuple[Remains, float]:
    job, poison, times, seen = ObservedJob(stack, "quiet", plan.engine, batches, plan.seed), Poison(), [], 0
    deadline = time.monotonic() + 60 * plan.minutes
    while not (look := job.look(poison)).ended and time.monotonic() < deadline:
        if look.batch > seen:
            seen = look.batch
            times.append(time.monotonic())
            if seen % TELL_EVERY == 0:
                say(f"batch {seen} of {batches}")
        time.sleep(LOOK_EVERY_S)
    paces = [later - earlier for earlier, later in pairwise(times)]
    pace_s = statistics.median(paces) if paces else 0.0
    say(f"quiet job {job.state()} after {job.look(poison).batch} batches, {pace_s:.1f} s each")
    return job.remains(poison), pace_s


class _Session:
    """The job that is struck."""

    def __init__(self, stack: Stack, plan: Plan, batches: int, say: Say) -> None:
        self._stack, self._plan, self._say = stack, plan, say
        self.job, self.poison = ObservedJob(stack, "struck", plan.engine, batches, plan.seed), Poison()
        self.struck: list[Struck] = []
        self._waiting = list(plan.faults)
        self._under_way: list[tuple[float, Undo, Struck]] = []
        self._due_s = 0.0
        """When the first waiting fault strikes; 0: its batch is not trained yet."""
        self._awaited = ""
        """The service that it waits for, said once."""

    def run(self) -> None:
        """Strike and watch until the job has ended, or its time is up."""
        if any(fault.kind == "upgrade" for fault in self._plan.faults) and not self._plan.two:
            self._stack.join_seconds()
        deadline = time.monotonic() + 60 * self._plan.minutes
        while time.monotonic() < deadline:
            look = self._look()
            self._end_faults()
            self._see(look)
            if look.ended and not self._under_way and not self._api_awaited():
                break
            if not look.ended:
                self._strike_if_due(look)
            time.sleep(LOOK_EVERY_S)
        for _, undo, _ in self._under_way:
            undo()
        for fault in self._waiting:
            self._say(f"not struck, the job had ended: {fault.kind} {fault.service}")
            self.struck.append(Struck(fault, Look(), time.monotonic(), notes=["not struck"]))

    def _look(self) -> Look:
        return self.job.look(self.poison, api=self._api_awaited())

    def _api_awaited(self) -> bool:
        return any(one.fault.service == "api" and one.recovered_in_s is None for one in self.struck)

    def _strike_if_due(self, look: Look) -> None:
        if not self._waiting or look.batch < self._waiting[0].at_batch:
            return
        fault, now = self._waiting[0], time.monotonic()
        self._due_s = self._due_s or now + fault.after_s
        playing = fault.service not in (*EPISODE_SERVICES, "advantage") or groups_in(look, UNPLAYED)
        if now < self._due_s or not (playing or now > self._due_s + AT_WORK_WITHIN_S):
            return
        began_s = time.monotonic()
        try:
            undo, note = strike(self._stack, fault, self.job.id, self.poison)
        except NobodyThere as nobody:  # tried again at the next look
            if str(nobody) != self._awaited:
                self._awaited = str(nobody)
                self._say(f"{fault.kind} waits for a process of {nobody}")
            return
        self._waiting.pop(0)
        self._due_s, self._awaited = 0.0, ""
        self._say(f"batch {look.batch}: {fault.kind} {fault.service} ({note or f'{fault.lasts_s:g} s'})")
        struck = Struck(fault, look, began_s, notes=[note])
        self.struck.append(struck)
        self._under_way.append((began_s + fault.lasts_s, undo, struck))

    def _end_faults(self) -> None:
        now = time.monotonic()
        for one in [one for one in self._under_way if one[0] <= now]:
            end_s, undo, struck = one
            undo()
            struck.ended_s = struck.ended_s if struck.fault.lasts_s == 0 else max(end_s, time.monotonic())
            self._under_way.remove(one)

    def _see(self, look: Look) -> None:
        lasting = [struck for _, _, struck in self._under_way]
        for struck in self.struck:
            if struck not in lasting and struck.see(look, time.monotonic()):
                fault = struck.fault
                self._say(f"batch {look.batch}: {fault.kind} {fault.service} recovered in {struck.recovered_in_s} s")


def _wait_for_leases(struck: Sequence[Struck]) -> None:
    """Sessions that a fault left open end by their time to live."""
    last_s = max((one.ended_s + (one.recovered_in_s or 0.0) for one in struck), default=0.0)
    time.sleep(max(last_s + LEASE_TTL_S + 5 - time.monotonic(), 0.0))


def _leases_left(stack: Stack) -> list[str]:
    """Live sessions that the environment services reported as they ended."""
    logs = [stack.data / name / "env.log" for name in ("logs", "logs-2")]
    last = [log.read_text(errors="replace").splitlines()[-20:] for log in logs if log.exists()]
    return [line[:200] for lines in last for line in lines if "leases alive" in line]
