"""The interface that authors of environments implement.

An environment is one class: `reset` shows the first observation, `step` applies one action. Everything else has a
default. Register the class by an entry point of the group `gigpo.environments`; its name is the environment's id.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar

import msgspec
from pydantic import BaseModel, ConfigDict, Field, JsonValue


class CostClass(IntEnum):
    """How dear one session is; the numbers are those of the contract."""

    LIGHT = 1
    """A step takes less than 1 ms."""
    MODERATE = 2
    """A step takes 1 to 100 ms."""
    HEAVY = 3
    """A step takes longer, or a session holds more than 100 MB."""


@dataclass(frozen=True)
class Capabilities:
    """The promises on which the service and a job rely."""

    deterministic: bool = True
    """The same seed, split, kwargs and actions give the same observations, so a lost session can be replayed."""
    gives_anchors: bool = True
    """States recur and `Observation.anchor` names them."""
    thread_safe: bool = True
    cost_class: CostClass = CostClass.LIGHT
    overlaps: bool = False
    """Its calls wait for something else, such as a server: each session gets a thread of its own in a worker, so that
    none waits for another. Needs `thread_safe`. Such a session must not draw from the global generators of `random` and
    NumPy, which threads share. Async code runs in it by an `asyncio.Runner` of the session's own."""


class Observation(msgspec.Struct, frozen=True, kw_only=True):
    """One observation of the agent."""

    text: str
    anchor: str | None = None
    """The text by which steps are grouped; None: `text`. Leave out what never recurs, such as a turn counter."""
    task: str = ""
    """The task of the agent. Not repeated in `text`: a prompt template joins them."""
    admissible_actions: tuple[str, ...] = ()
    """Every action that would count as valid now; empty: not known."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one action."""

    observation: Observation
    reward: float = 0.0
    """The reward of this step; finite, at most 1e12 in size."""
    rewards: tuple[float | None, ...] = ()
    """The value of each reward function, not weighed, where `reward` is their weighted sum; None: it abstains, and
    has no part in the sum."""
    score: float | None = None
    """The score of the episode so far, in the environment's own terms; None: the sum of rewards."""
    judge_tokens: int = 0
    """Tokens of other language models that were paid for scoring the action."""
    won: bool = False
    terminated: bool = False
    """The environment ended the episode (not a limit on turns: the service counts those itself)."""
    truncated: bool = False
    action_valid: bool | None = None
    """None: valid if the observation before named the action as admissible, or named none."""
    executed: str | None = None
    """The action as it was understood, where several spellings are one action; None: as it came. Steps that executed
    the same action in one state can be compared as one (`step_shrinkage`)."""


class EnvironmentKwargs(BaseModel):
    """Settings that every environment has. A subclass adds fields; their JSON Schema is what users see."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_turns: int = Field(20, ge=1, le=100_000, description="The episode is truncated after this many steps.")


class KwargsError(Exception):
    """The kwargs cannot be met, for a reason that no schema tells; the message names the key. For use before `step`."""


class ModelFault(Exception):
    """The environment cannot go on because of what the model said; the episode ends without a reward."""


class InfraFault(Exception):
    """A server or the like that the environment depends on has failed: no bug of its code, and no doing of
    the model's. The attempt is to be played again."""


class HomeLost(InfraFault):
    """A JVM or the like that a worker's sessions share has gone; the next session gets another. Like the loss of
    the worker itself: a deterministic session is replayed, any other ends as an INFRA fault."""


class Environment(ABC):
    """One live session. The service makes an object per session and calls it from one thread, which other sessions
    share unless `capabilities.overlaps` says otherwise.

    An exception out of any method, also one that is no `Exception`, ends the session as a fault of class ENV_BUG: no
    reward is made up. So does a field of another type than the one declared here; the fault names it.
    """

    Kwargs: ClassVar[type[EnvironmentKwargs]] = EnvironmentKwargs
    capabilities: ClassVar[Capabilities] = Capabilities()
    options: ClassVar[Mapping[str, JsonValue]] = {}
    """The operator's options for it (ENV_SERVICE_OPTIONS), such as folders and addresses that it may use:
    kwargs come from whoever submits a job, these do not."""
    splits: ClassVar[tuple[str, ...]] = ("train", "test")
    """Disjoint task sets; the first is the default."""
    prompt_template: ClassVar[str] = "plain/v1"
    """See docs/prompts.md."""
    templates: ClassVar[str] = ""
    """Folder beside this class's module with prompt templates of its own, such as "templates"; empty: there is none."""
    requires: ClassVar[tuple[str, ...]] = ()
    """Modules that must be installed. Import them where they are used, so that listing stays cheap."""
    extra: ClassVar[str] = ""
    """The extra of this project that installs them, told to whoever lacks them; empty: there is none."""
    max_sessions: ClassVar[int] = 0
    """Sessions of it that one service holds at a time; 0: as many as the service holds at all."""
    examples: ClassVar[tuple[Mapping[str, JsonValue], ...]] = ({},)
    """Kwargs to try it with: `gigpo env check` takes each, `play` and `bench` the first. Give one where a key has no
    default."""
    example_actions: ClassVar[tuple[str, ...]] = ()
    """Actions to try it with where observations do not name the admissible ones."""
    tools: Sequence[Mapping[str, JsonValue]] = ()
    """The tools whose calls are its actions: objects with `name`, `description` and `parameters` (JSON Schema). An
    action is then one call as JSON, {"name": ..., "arguments": {...}}. Set it on the class, or on the object where
    kwargs decide; it is asked for after `reset`."""

    def __init__(self, kwargs: EnvironmentKwargs) -> None:
        """Keep what was asked for: a valid instance of `Kwargs`. Annotate `kwargs` in the class to have its type."""
        self.kwargs = kwargs

    @abstractmethod
    def reset(self, seed: int, split: str) -> Observation:
        """Start the task that (seed, split, kwargs) names: the same one in every process. Called once."""

    @abstractmethod
    def step(self, action: str) -> Outcome:
        """Apply one action, whatever it is. One that means nothing here must not raise: the service takes it for an
        invalid step if it is not admissible, or if `Outcome.action_valid` says so."""

    def answer(self, action: str, response_tokens: int) -> Outcome:
        """The service calls this; override it in place of `step` where the length of the agent's response matters.

        `response_tokens`: its length, tokens, of which `action` may be a part; 0: not known (a person plays, or a
        session is rebuilt, whose rewards were given already).
        """
        return self.step(action)

    def consult(self, action: str, response_tokens: int) -> None:  # noqa: B027 - most ask nobody
        """Wait for what `answer` needs, such as another model's word, and keep it. Called right before `answer`, with
        the same arguments, where `consults` says so, in a thread of the session's own: other sessions of the worker go
        on meanwhile. Not called in a replay. It must neither draw from the global generators nor compute for long."""

    @property
    def consults(self) -> bool:
        """Whether this session's steps have something to wait for in `consult`; asked after `reset`."""
        return False

    def state(self) -> object | None:
        """Plain values (numbers, texts, tuples, lists, dicts) that tell two different states apart, turn count aside.

        None, the default: the history of actions stands for the state, so that no two paths ever meet.
        """
        return None

    def warnings(self) -> Sequence[str]:
        """Notes on its kwargs and data for the person who submits a job, a sentence each; asked after `reset`."""
        return ()

    def close(self) -> None:  # noqa: B027 - most have nothing to free
        """Free what the session holds."""

    @property
    def deterministic(self) -> bool:
        """Whether this session can be rebuilt by replaying its actions."""
        return self.capabilities.deterministic

    @property
    def longest_call_s(self) -> float:
        """How long one call may show no life, such as one that waits for a slow server, seconds; 0, the default: as
        long as the service allows (ENV_SERVICE_STEP_TIMEOUT_S), which is never less."""
        return 0.0

    @classmethod
    def unavailable_reason(cls) -> str:
        """Why it cannot run here although `requires` is met, such as "no `java` on the PATH"; empty: it can."""
        return ""

    @classmethod
    def vocabulary(cls) -> list[str]:
        """Every word that texts and actions can contain, whatever the kwargs. Empty, the default: a job that trains a
        policy from scratch gathers the words, by playing random admissible actions with the job's kwargs."""
        return []
