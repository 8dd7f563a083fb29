"""An environment that does on command what environments do to a service. Imported by worker processes too."""

import asyncio
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from gigpo.env.environment import (
    Capabilities,
    CostClass,
    Environment,
    EnvironmentKwargs,
    HomeLost,
    InfraFault,
    Observation,
    Outcome,
)
from gigpo.env.progress import allow_silence, report_each


class FaultyKwargs(EnvironmentKwargs):
    deterministic: bool = True
    reset: str = ""
    """An action that reset takes."""
    longest_call_s: float = 0.0
    shows_process: bool = False
    """Let the observation name the process: a determinism that is claimed and not kept."""


class PanicException(BaseException):
    """Raise as code written in Rust does."""


class Faulty(Environment):
    """Counts its steps; some actions do harm first."""

    Kwargs = FaultyKwargs
    kwargs: FaultyKwargs
    splits = ("train",)

    @property
    def deterministic(self) -> bool:
        return self.kwargs.deterministic

    @property
    def longest_call_s(self) -> float:
        return self.kwargs.longest_call_s

    def reset(self, seed: int, split: str) -> Observation:
        self.count = seed
        self.shown: dict[str, Any] = {}
        self.do(self.kwargs.reset)
        return self.seen()

    def step(self, action: str) -> Outcome:
        self.do(action)
        self.count += 1
        return Outcome(observation=self.seen(), reward=1.0)

    def do(self, action: str) -> None:
        verb, _, rest = action.partition(" ")
        if verb == "sleep":
            time.sleep(float(rest))
        elif verb == "work":  # in so many parts, each of half a second
            for _ in report_each(range(int(rest))):
                time.sleep(0.5)
        elif verb == "spin-alive":
            for _ in report_each(itertools.count()):
                pass
        elif verb == "compute":  # for so many seconds of CPU time
            until = time.process_time() + float(rest)
            while time.process_time() < until:
                pass
        elif verb == "compute-elsewhere":
            program = f"import time\nwhile time.process_time() < 1.5: pass\nopen({rest!r}, 'w')"
            subprocess.Popen([sys.executable, "-c", program])
        elif verb == "unseen":  # announced and taken time, seconds
            announced, taken = map(float, rest.split())
            with allow_silence(announced):
                time.sleep(taken)
        elif verb == "spin":
            while True:
                pass
        elif verb == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        elif verb == "die-once" and not Path(rest).exists():
            Path(rest).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        elif verb == "wait-for":
            Path(rest + ".reached").touch()
            while not Path(rest).exists():
                time.sleep(0.01)
        elif verb == "meet":  # others, as many as said, who come here while this one waits
            folder, wanted = rest.split()
            Path(folder, str(id(self))).touch()
            while len(os.listdir(folder)) < int(wanted):
                time.sleep(0.01)
        elif verb == "panic":
            raise PanicException(rest)
        elif verb == "cancel":
            raise asyncio.CancelledError
        elif verb == "interrupt":
            raise KeyboardInterrupt
        elif verb == "leave":
            sys.exit(3)
        elif verb == "number":
            self.shown["task"] = 7
        elif verb == "raise":
            raise RuntimeError("broken on purpose")
        elif verb == "lose-home" and not Path(rest).exists():
            Path(rest).touch()
            raise HomeLost("what all sessions here share has gone")
        elif verb == "lose-home-always":
            raise HomeLost("what all sessions here share has gone")
        elif verb == "lose-server":
            raise InfraFault("the server has gone")
        elif verb == "bomb":
            self.hoard = bytearray(1 << 40)
        elif verb == "hoard":  # bit by bit, and touch all of it
            self.hoards: list[bytes] = []
            while True:
                self.hoards.append(b"x" * (16 << 20))
        elif verb in ("spawn", "spawn-apart"):
            program = f"import time; time.sleep(600)  # {rest}"
            subprocess.Popen([sys.executable, "-c", program], start_new_session=verb == "spawn-apart")
        elif verb == "print":
            print(rest, flush=True)  # noqa: T201 - what is tested

    def state(self) -> object:
        return self.count

    def seen(self) -> Observation:
        process = f" in {os.getpid()}" if self.kwargs.shows_process else ""
        return Observation(text=f"count {self.count}{process}", **self.shown)


class Moderate(Faulty):
    """Has workers of its own, as its steps take long."""

    capabilities = Capabilities(cost_class=CostClass.MODERATE)


class Unthreaded(Faulty):
    """Has workers of its own, as what it stands on is shared by a process."""

    capabilities = Capabilities(thread_safe=False)


class Overlapping(Faulty):
    """Its sessions have a thread each."""

    capabilities = Capabilities(overlaps=True)

    def __init__(self, kwargs: EnvironmentKwargs) -> None:
        super().__init__(kwargs)
        self.threads = {threading.get_ident()}

    def do(self, action: str) -> None:
        self.threads.add(threading.get_ident())
        super().do(action)

    def seen(self) -> Observation:
        return Observation(text=f"{super().seen().text}, {len(self.threads)} thread")

    def close(self) -> None:
        if not self.threads >= {threading.get_ident()}:
            os._exit(4)
