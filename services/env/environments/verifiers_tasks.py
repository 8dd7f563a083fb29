"""Single-turn tasks of a verifiers taskset: its prompt, one reply, its own rewards.

Transcript (a taskset that asks for a text backwards):

    Reverse: abc        cba         reward 1, won

The anchor is the prompt. What a taskset has beside its prompt and rewards (a harness that talks, tools, a container) is
not run here: such a taskset is refused. Licence of the package verifiers: MIT.
"""

import asyncio
import inspect
import json
from functools import cache
from importlib import import_module
from itertools import islice
from typing import Any

from pydantic import Field, JsonValue

from gigpo.env.environment import (
    Capabilities,
    CostClass,
    Environment,
    EnvironmentKwargs,
    KwargsError,
    Observation,
    Outcome,
)
from gigpo.env.progress import allow_silence, report_each
from services.env.environments.splits import in_test_split, task_number

LOAD_S = 120.0
"""A taskset may take so long to import and to begin, on a busy machine."""


class VerifiersKwargs(EnvironmentKwargs):
    """Which taskset, and how it is set up."""

    taskset: str = Field(
        pattern=r"^[\w.]+:\w+$", description="The class, module:Class; the operator of this service must allow it."
    )
    config: dict[str, JsonValue] = Field({}, description="The taskset's own configuration.")
    max_tasks: int = Field(1000, ge=1, le=1_000_000, description="So many are taken of a taskset that has more.")
    won_reward: float = Field(1.0, description="A reply of at least this reward is won.")
    max_turns: int = Field(1, ge=1, le=1, description="One reply ends the episode.")


class Verifiers(Environment):
    """Single-turn tasks of a verifiers taskset that the operator allows, scored by its own rewards."""

    Kwargs = VerifiersKwargs
    kwargs: VerifiersKwargs
    capabilities = Capabilities(gives_anchors=False, thread_safe=False, cost_class=CostClass.MODERATE)
    prompt_template = "prompts/v1"
    requires = ("verifiers.v1",)
    extra = "verifiers"
    examples = ()  # there is no taskset in the package that needs nothing else

    def reset(self, seed: int, split: str) -> Observation:
        allowed = self.options.get("tasksets", [])
        if not isinstance(allowed, list) or self.kwargs.taskset not in allowed:
            raise KwargsError(f"taskset: {self.kwargs.taskset} is not one that the operator of this service allows")
        train, test = _tasks(
            self.kwargs.taskset, self.kwargs.model_dump_json(include={"config"}), self.kwargs.max_tasks
        )
        asked = test if split == "test" and test else train or test
        self._task = asked[task_number(f"verifiers/{split}/{seed}") % len(asked)]
        self._reply: str | None = None
        return self._observation()

    def step(self, action: str) -> Outcome:
        self._reply = action
        trace = _trace(self._task, _prompt(self._task), action)
        asyncio.run(self._task.score(trace))
        reward = float(trace.reward)
        return Outcome(
            observation=self._observation(),
            reward=reward,
            won=reward >= self.kwargs.won_reward,
            terminated=True,
            action_valid=True,
        )

    def state(self) -> object:
        return self._task.key, self._reply

    def _observation(self) -> Observation:
        prompt = _prompt(self._task)
        return Observation(text="", anchor=prompt, task=prompt)


@cache
def _tasks(reference: str, settings: str, most: int) -> tuple[list[Any], list[Any]]:
    """The tasks for training and held out, in the order of the taskset; one prompt in six is. KwargsError: they cannot
    be played here."""
    vf: Any = import_module("verifiers.v1")
    module, _, name = reference.partition(":")
    try:
        with allow_silence(LOAD_S):
            found = getattr(import_module(module), name)
            config_type = _config_type(vf, found)
            taskset = found(config_type(**json.loads(settings)["config"]))
            first = list(islice(iter(taskset), 1))
        every = [*first, *report_each(islice(iter(taskset), 1, most))]
    except BaseException as error:
        raise KwargsError(
            f"taskset, config: {reference} cannot be made: {' '.join(repr(error).split()):.300}"
        ) from error
    if not every:
        raise KwargsError(f"taskset: {reference} has no tasks")
    if why := _unplayable(every[0], taskset):
        raise KwargsError(f"taskset: want one of single-turn tasks, {reference} {why}")
    held = [in_test_split(_prompt(task)) for task in every]  # equal prompts stay on one side
    return [task for task, out in zip(every, held, strict=True) if not out], [
        task for task, out in zip(every, held, strict=True) if out
    ]


def _config_type(vf: Any, found: Any) -> Any:
    """The class of a taskset's configuration: the second argument of its generic base."""
    generic: Any = import_module("verifiers.v1.utils.generic")
    return generic.concrete_type(found, vf.TasksetConfig) or vf.TasksetConfig


def _unplayable(task: Any, taskset: Any) -> str:
    """Something that a task needs and that is not run here; empty: nothing."""
    if task.NEEDS_CONTAINER or task.data.image:
        return "needs a container"
    if type(task).toolsets(task.config) or type(taskset).toolsets(taskset.config):
        return "brings tools: serve them as an MCP server and take the environment mcp"
    if task.data.prompt is None:
        return "has no prompt: its user begins"
    required = inspect.Parameter.empty
    for hook in task.hooks("reward"):
        wanted = inspect.signature(hook).parameters.get("runtime")
        if wanted is not None and wanted.default is required:
            return f"has a reward that needs a runtime: {hook.__name__}"
    return "" if task.hooks("reward") or task.config.judges else "has no rewards"


def _prompt(task: Any) -> str:
    """System prompt and prompt."""
    return "\n\n".join(part for part in (task.data.system_prompt, task.data.prompt_text) if part)


def _trace(task: Any, prompt: str, reply: str) -> Any:
    """One exchange, as the package records it."""
    vf: Any = import_module("verifiers.v1")
    trace: Any = import_module("verifiers.v1.trace")
    node: Any = import_module("verifiers.v1.graph").MessageNode
    return trace.Trace(
        task=trace.TraceTask(type=type(task).__name__, data=task.data, key=task.key, hash=task.hash),
        agent=trace.AgentInfo(config=vf.AgentConfig()),
        nodes=[
            node(message=vf.UserMessage(content=prompt)),
            node(parent=0, message=vf.AssistantMessage(content=reply), sampled=True),
        ],
    )
