"""An environment that counts its steps and makes trouble where its kwargs say so."""

import os
import signal
import time
from pathlib import Path

from gigpo.env.environment import Environment, EnvironmentKwargs, Observation, Outcome


class TroubledKwargs(EnvironmentKwargs):
    die_once: str = ""
    """File that the third step makes; where it is not there yet, the worker process dies with it."""
    raise_at: int = 0
    """Step that raises."""
    step_s: float = 0.0
    """Length of a step, seconds."""
    steps_file: str = ""
    """File that gets a line for each step taken."""


class Troubled(Environment):
    """Wins after four steps that said go."""

    Kwargs = TroubledKwargs
    kwargs: TroubledKwargs

    @property
    def deterministic(self) -> bool:
        return False  # so that a session that dies is not rebuilt

    def __init__(self, kwargs: TroubledKwargs) -> None:
        self.kwargs = kwargs

    def reset(self, seed: int, split: str) -> Observation:
        self.count = self.goes = 0
        return self.seen()

    def step(self, action: str) -> Outcome:
        self.count += 1
        self.goes += action == "go"
        if self.kwargs.steps_file:
            with open(self.kwargs.steps_file, "a") as log:
                log.write(f"{self.count}\n")
        time.sleep(self.kwargs.step_s)
        if self.count == self.kwargs.raise_at:
            raise RuntimeError("broken on purpose")
        if self.kwargs.die_once and self.count == 3 and not Path(self.kwargs.die_once).exists():
            Path(self.kwargs.die_once).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        won = self.goes >= 4
        return Outcome(observation=self.seen(), reward=float(won), won=won, terminated=won, action_valid=action == "go")

    def state(self) -> object:
        return (self.count, self.goes)

    def seen(self) -> Observation:
        return Observation(text=f"at {self.goes} .", task="go on", admissible_actions=("go",))
