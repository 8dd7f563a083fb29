"""Questions and coding tasks for an agent that can run Python.

Transcript (the generated sums):

    3 plus 4            {"name": "python", "arguments": {"code": "3 + 4"}}
    7                   {"name": "answer", "arguments": {"answer": "7"}}        reward 1, won

Each run is a process of its own that reaches nothing and leaves nothing behind (runner.py): names of one run are not
there in the next. The anchor is what the last run showed.
"""

import json
import random
from collections.abc import Mapping, Sequence
from typing import Self

from pydantic import Field, JsonValue, model_validator

from gigpo.env.data import DataFolder
from gigpo.env.environment import (
    Capabilities,
    CostClass,
    Environment,
    EnvironmentKwargs,
    KwargsError,
    Observation,
    Outcome,
)
from services.env.environments.prompts.answers import is_right
from services.env.environments.prompts.questions import Arithmetic, folder_splits, own_splits
from services.env.environments.prompts.rows import HeldOutShare, OwnRows
from services.env.environments.python_sandbox.runner import missing_here
from services.env.environments.python_sandbox.sandbox import Run, run_python
from services.env.environments.tool_calls import ANSWER, Call, Tool, listed, one_text, parsed_call

PYTHON = Tool("python", "Run Python code and see what it prints.", one_text("code"))
SUBMIT = Tool("submit", "Hand in the code that solves the task.", one_text("code"))


class PythonSandboxKwargs(EnvironmentKwargs):
    """The data of the task, and the limits of a run."""

    data: DataFolder | None = Field(
        None, description="Folder with train.jsonl and perhaps test.jsonl; a line holds prompt and solution or tests."
    )
    rows: OwnRows = ()
    arithmetic: Arithmetic | None = Field(None, description="Generated sums; asked when no other questions are given.")
    split_dataset_ratio: HeldOutShare = 0.1
    list_tools: bool = Field(True, description="Whether the task lists the tools in words.")
    timeout_s: float = Field(5.0, ge=0.1, le=60, description="Longest that one run may compute, seconds.")
    memory_mb: int = Field(256, ge=64, le=4096, description="Address space of one run, MiB.")
    max_turns: int = Field(5, ge=1, le=100_000, description="The episode is truncated after this many steps.")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        given = [name for name in ("data", "rows", "arithmetic") if getattr(self, name)]
        if len(given) > 1:
            raise ValueError(f"want one of data, rows and arithmetic, got {' and '.join(given)}")
        return self


class PythonSandbox(Environment):
    """Questions and coding tasks for an agent that can run Python, in a process that reaches nothing."""

    Kwargs = PythonSandboxKwargs
    kwargs: PythonSandboxKwargs
    capabilities = Capabilities(cost_class=CostClass.MODERATE)
    tools: Sequence[Mapping[str, JsonValue]] = (PYTHON.schema(), ANSWER.schema())
    example_actions = (
        '{"name": "python", "arguments": {"code": "print(2 + 3)"}}',
        '{"name": "python", "arguments": {"code": "import math; math.factorial(5)"}}',
        '{"name": "answer", "arguments": {"answer": "5"}}',
    )

    def reset(self, seed: int, split: str) -> Observation:
        kwargs = self.kwargs
        if kwargs.data is not None:
            splits = folder_splits(kwargs.data, kwargs.split_dataset_ratio)
        else:
            splits = own_splits(kwargs.rows, kwargs.arithmetic or Arithmetic(), kwargs.split_dataset_ratio)
        self._warnings = splits.warnings
        asked = splits.test if split == "test" else splits.train
        self._question = random.Random(f"python_sandbox/{split}/{seed}").choice(asked)
        tests = self._question.row.get("tests", "")
        self._tests = tests if isinstance(tests, str) else ""
        if not (self._tests or self._question.solution):
            shown = json.dumps(self._question.text)[:80]
            raise KwargsError(f"data: want a solution, or tests as Python code, in every row; {shown} has neither")
        tools = (PYTHON, SUBMIT if self._tests else ANSWER)
        self.tools = tuple(tool.schema() for tool in tools)
        self._names = [tool.name for tool in tools]
        self._task = "\n".join([self._question.text, *([listed(tools)] if kwargs.list_tools else [])])
        self._shown = ""
        return self._observation()

    def step(self, action: str) -> Outcome:
        call = parsed_call(action, self._names)
        text = _text_of(call) if isinstance(call, Call) else call
        if not isinstance(call, Call) or text is None:
            self._shown = text or "arguments: want one text: code for python and submit, answer for answer"
            return Outcome(observation=self._observation(), action_valid=False)
        if call.name == PYTHON.name:
            self._shown = self._run(text).output
            return Outcome(observation=self._observation(), action_valid=True)
        won = self._run(text, self._tests).passed if self._tests else self._is_right(text)
        self._shown = ""
        return Outcome(observation=self._observation(), reward=float(won), won=won, terminated=True, action_valid=True)

    def warnings(self) -> tuple[str, ...]:
        return self._warnings

    @classmethod
    def unavailable_reason(cls) -> str:
        return missing_here()

    def _run(self, code: str, tests: str = "") -> Run:
        return run_python(code, tests, timeout_s=self.kwargs.timeout_s, memory_mb=self.kwargs.memory_mb)

    def _is_right(self, answer: str) -> bool:
        return self._question.solution is not None and is_right(answer, self._question.solution)

    def _observation(self) -> Observation:
        return Observation(text=self._shown, task=self._task)


def _text_of(call: Call) -> str | None:
    """The one argument; None: it is missing, no text, or not alone. A number is taken for an answer."""
    wanted = "answer" if call.name == ANSWER.name else "code"
    value = call.arguments.get(wanted)
    if len(call.arguments) != 1 or isinstance(value, bool):
        return None
    if call.name == ANSWER.name and isinstance(value, int | float):
        return str(value)
    return value if isinstance(value, str) else None
