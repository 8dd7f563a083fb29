"""Starts services in stages, keeps them alive, and stops them in reverse order."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from services.stack.child import Child, ServicePlan, StartFailed
from services.stack.guardian import Guardian

Say = Callable[[str], None]


@dataclass(frozen=True)
class RestartLimits:
    """How a crashed service is started again: each wait is twice the one before."""

    first_wait_s: float = 0.5
    longest_wait_s: float = 15.0
    """Up to so many seconds for the first `restarts` in a row."""
    restarts: int = 6
    """Restarts after which the user is warned, once; the waits go on growing."""
    patient_wait_s: float = 300.0
    """Up to so many seconds."""
    steady_s: float = 60.0
    """A service that lived for so long has recovered: its next crash is the first in a row."""
    hung_looks: int = 60
    """A service that gave no sign of life at so many looks in a row, one a second, is killed and started again."""


class Supervisor:
    """All services of one machine.

    Args:
        stages: a stage starts when the one before is ready; the services of one stage start together.
        logs: folder of `<name>.log`.
        say: takes one line for the user.
    """

    def __init__(
        self,
        stages: Sequence[Sequence[ServicePlan]],
        logs: Path,
        say: Say,
        limits: RestartLimits | None = None,
    ) -> None:
        self._stages, self._logs, self._say = stages, logs, say
        self.restarted: Callable[[], None] = lambda: None
        """Called when a service has another process than before, and when that process is ready."""
        self._limits = limits or RestartLimits()
        self._children: dict[str, Child] = {}  # kept in order of start
        self._watchers: list[asyncio.Task[None]] = []
        self.addresses: dict[str, str] = {}
        self._guardian: Guardian | None = None

    async def start(self) -> None:
        """Start every service and wait until each is ready or has failed; what failed is tried again by `watch`.

        Raises:
            StartFailed: a service that the others need did not get ready; what runs then keeps running.
        """
        self._guardian = await Guardian.start()
        for stage in self._stages:
            children = [await self._spawn(plan) for plan in stage]
            await asyncio.gather(*(self._first_start(child) for child in children))
            self._watchers += [asyncio.create_task(self._keep_alive(child)) for child in children]

    async def watch(self) -> None:
        """Restart what crashes, for ever: one service that cannot be kept running takes no other one down."""
        await asyncio.gather(*self._watchers)

    async def stop(self, hurry: asyncio.Event) -> None:
        """End everything in reverse order; `hurry` cuts the deadlines short."""
        for watcher in self._watchers:
            watcher.cancel()
        await asyncio.gather(*self._watchers, return_exceptions=True)
        for name, child in reversed(self._children.items()):
            await self._stop_child(name, child, hurry)
        if self._guardian is not None:
            await self._guardian.dismiss()

    def pids(self) -> dict[str, int]:
        """Process ids by service."""
        return {name: child.pid for name, child in self._children.items()}

    def metrics(self) -> dict[str, str]:
        """URLs of side ports by service."""
        return {name: child.metrics for name, child in self._children.items() if child.metrics is not None}

    async def _spawn(self, plan: ServicePlan) -> Child:
        child = await Child.start(plan, self.addresses, self._logs)
        if self._guardian is not None:
            self._guardian.watch(child.pid)
        self._children[plan.name] = child
        return child

    async def _until_ready(self, child: Child) -> None:
        began = time.monotonic()
        address = await child.ready()
        if address is not None:
            self.addresses[child.plan.name] = address
        where = f" at {address}" if address else ""
        self._say(f"{child.plan.name} ready{where} after {time.monotonic() - began:.1f} s")

    async def _first_start(self, child: Child) -> None:
        try:
            await self._until_ready(child)
        except StartFailed as failure:
            if child.plan.needed:
                raise
            self._say(f"{failure}\nthe others go on without {child.plan.name}")
            await child.stop(deadline_s=1.0)

    async def _keep_alive(self, child: Child) -> None:
        plan, limits, crashes, wait_s = child.plan, self._limits, 0, 0.0
        while True:
            began = time.monotonic()
            how = await self._ended_or_hung(child)
            child.kill()  # what it left behind in its session
            if self._guardian is not None:
                self._guardian.forget(child.pid)
            if time.monotonic() - began > limits.steady_s:
                crashes = 0
            crashes += 1
            longest_s = limits.longest_wait_s if crashes <= limits.restarts else limits.patient_wait_s
            wait_s = limits.first_wait_s if crashes == 1 else min(2 * wait_s, longest_s)
            if crashes <= limits.restarts:
                self._say(f"{plan.name} {how}; restart {crashes} in {wait_s:g} s, log {child.log}")
            elif crashes == limits.restarts + 1:
                self._say(
                    f"{plan.name} crashed {crashes} times in a row; the others go on without it, and it is tried again "
                    f"less and less often, at least every {limits.patient_wait_s:g} s; its log is {child.log}"
                )
            await asyncio.sleep(wait_s)
            child = await self._started_again(child, quiet=crashes > limits.restarts)

    async def _ended_or_hung(self, child: Child) -> str:
        """Wait for its end, and see to that when it hangs; how it ended, in words."""
        ended = asyncio.create_task(child.ended())
        hung = asyncio.create_task(child.hung(self._limits.hung_looks))
        try:
            await asyncio.wait({ended, hung}, return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                return f"ended with {ended.result()}"
            hung.result()
            child.kill()
            await ended
            return f"hung, without a sign of life for {self._limits.hung_looks} s, and was killed"
        finally:
            ended.cancel()
            hung.cancel()

    async def _started_again(self, child: Child, *, quiet: bool) -> Child:
        """The service's next process, ready or stopped; the one before it where none could be made."""
        try:
            child = await self._spawn(child.plan)
            self.restarted()
            await self._until_ready(child)
            self.restarted()
        except StartFailed as failure:
            if not quiet:
                self._say(str(failure))
            await child.stop(deadline_s=1.0)
        except OSError as error:  # no memory or no process left, the interpreter is being replaced
            self._say(f"{child.plan.name} could not be started: {error}")
        return child

    async def _stop_child(self, name: str, child: Child, hurry: asyncio.Event) -> None:
        stopping = asyncio.create_task(child.stop())
        hurried = asyncio.create_task(hurry.wait())
        await asyncio.wait({stopping, hurried}, return_when=asyncio.FIRST_COMPLETED)
        if not stopping.done():
            child.kill()
        hurried.cancel()
        if not await stopping:
            self._say(f"{name} did not stop in time and was killed")
