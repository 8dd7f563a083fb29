"""One supervised process: started, ready, ended. No policy on restarts."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from services.kit.process import die_with_parent, kill_group
from services.kit.pulse import Sign, Stillness, cpu_s, sign_in

PROBE_EVERY_S = 0.1
LOOK_EVERY_S = 1.0
_TAIL_BYTES = 1_500

Variables = Callable[[Mapping[str, str]], Mapping[str, str]]
"""Addresses known so far, by service -> environment variables; the service's own address is there on a restart."""
_OF_THE_API = ("API_", "GIGPO_API_KEY")
"""How variables begin that may hold a key or the password of the database."""


@dataclass(frozen=True)
class ServicePlan:
    """How a service is started and ended."""

    name: str
    command: Sequence[str]
    variables: Variables = lambda _: {}
    """Added to the supervisor's own environment, without what is the API's alone."""
    probe: Callable[[], bool] | None = None
    """Whether it is ready; None: it says so by its announcing line on stdout."""
    start_s: float = 300.0
    """Longest time from the start until it is ready; torch on a busy machine takes minutes. One that
    ends is noticed at once."""
    stop_s: float = 10.0
    """Longest time from SIGTERM to its end; then SIGKILL."""
    needed: bool = False
    """The stack does not come up without it."""
    pulse: Path | None = None
    """The file that it touches while it works; see `kit.pulse`."""
    lives: Callable[[], bool] | None = None
    """Whether it answers at all, for one that touches no file."""


class StartFailed(Exception):
    """The process ended or was silent until its deadline; the message holds the end of its log."""


class Child:
    """One running process of a service.

    Made by `start` only: from the main thread's event loop, because the process ends with the thread that started it.
    """

    def __init__(self, plan: ServicePlan, process: asyncio.subprocess.Process, log: Path) -> None:
        self.plan, self._process, self.log = plan, process, log
        self._announced: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self.metrics: str | None = None
        """URL of its side port (`services.kit.side_port`); None: it is not ready, or has none."""
        self._reader = asyncio.create_task(self._read_stdout())
        self._buried = False

    @classmethod
    async def start(cls, plan: ServicePlan, addresses: Mapping[str, str], logs: Path) -> Child:
        """Start the process; it is not ready yet. Its stderr and stdout go to `<logs>/<name>.log`."""
        logs.mkdir(parents=True, exist_ok=True)
        log = logs / f"{plan.name}.log"
        with log.open("ab") as errors:
            process = await asyncio.create_subprocess_exec(
                *plan.command,
                env={**_inherited(plan.name), **plan.variables(addresses)},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                start_new_session=True,  # a Ctrl-C at the terminal is the supervisor's alone
                preexec_fn=die_with_parent,
            )
        return cls(plan, process, log)

    @property
    def pid(self) -> int:
        return self._process.pid

    async def ready(self) -> str | None:
        """Wait until it is ready; returns its address, if it has one.

        Raises:
            StartFailed: it ended, or `start_s` passed.
        """
        waiting = asyncio.ensure_future(self._probed() if self.plan.probe else self._announced)
        ended = asyncio.create_task(self._process.wait())
        first: set[asyncio.Future[str | None] | asyncio.Future[int]] = {waiting, ended}
        try:
            await asyncio.wait(first, timeout=self.plan.start_s, return_when=asyncio.FIRST_COMPLETED)
            if waiting.done() and not ended.done():
                return waiting.result()
        finally:
            ended.cancel()
            waiting.cancel()
        how = f"ended with {self._process.returncode}" if ended.done() else f"was silent for {self.plan.start_s:g} s"
        raise StartFailed(f"{self.plan.name} {how}; the end of {self.log}:\n{_tail(self.log)}")

    async def ended(self) -> int:
        """Wait for its end; returns the exit status, -n for signal n."""
        return await self._process.wait()

    async def hung(self, after_looks: int) -> None:
        """Wait until it has given no sign of life, looked for once a second, so many times in a row."""
        stillness, answers = Stillness(after_looks), 0
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            if self.plan.lives is not None:
                answers += await asyncio.to_thread(self.plan.lives)
                sign = Sign(answers, cpu_s(self.pid))
            elif self.plan.pulse is not None:
                sign = await asyncio.to_thread(sign_in, self.plan.pulse, self.pid)
            else:
                sign = Sign(None)
            if stillness.hangs(sign):
                return

    async def stop(self, deadline_s: float | None = None) -> bool:
        """SIGTERM, then SIGKILL to its whole session when the deadline passed. True: it obeyed."""
        obeyed = True
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.terminate()
            try:
                await asyncio.wait_for(self._process.wait(), self.plan.stop_s if deadline_s is None else deadline_s)
            except TimeoutError:
                obeyed = False
        self.kill()
        await self._process.wait()
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)
        return obeyed

    def kill(self) -> None:
        """SIGKILL to everything in its session that is left; once it has ended, once: its number may be another's."""
        if self._buried:
            return
        self._buried = self._process.returncode is not None
        kill_group(self.pid)

    async def _probed(self) -> str | None:
        while self.plan.probe and not await asyncio.to_thread(self.plan.probe):
            await asyncio.sleep(PROBE_EVERY_S)
        return None

    async def _read_stdout(self) -> None:
        assert self._process.stdout is not None
        with self.log.open("ab", buffering=0) as log:
            async for line in self._process.stdout:
                with suppress(OSError):  # a full disk: the service is ready all the same
                    log.write(line)
                if not self._announced.done() and (announced := _announcement(line)) is not None:
                    self.metrics = announced.get("metrics")
                    self._announced.set_result(announced.get("address"))


def _announcement(line: bytes) -> dict[str, str | None] | None:
    try:
        document = json.loads(line)
    except ValueError:
        return None
    return document if isinstance(document, dict) and {"service", "pid"} <= document.keys() else None


def _tail(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(file.seek(0, os.SEEK_END) - _TAIL_BYTES, 0))
        return file.read(_TAIL_BYTES).decode(errors="replace").strip("\0 \n") or "(empty)"


def _inherited(service: str) -> dict[str, str]:
    """The supervisor's environment; the API's secrets go to it alone, since other services run what users bring."""
    return {name: value for name, value in os.environ.items() if service == "api" or not name.startswith(_OF_THE_API)}
