"""One session inside a worker: an environment, its history, its keys, and the checks of its return values."""

from functools import cached_property, lru_cache
from hashlib import blake2b
from typing import Any

import msgspec

from gigpo.env.environment import Environment, EnvironmentKwargs, Observation, Outcome
from gigpo_core.digest import action_digest, anchor_digest
from services.contracts.observation import KeyedObservation
from services.env.workers.tools import tools_json
from services.env.workers.wanted import ContractError, came, flag, named, number, text, texts, whole
from services.env.workers.wanted import reward as checked_reward
from services.env.workers.wanted import rewards as checked_rewards
from services.env.workers.wire import Stepped, packed

MAX_OBSERVATION_BYTES = 4 << 20
"""Most bytes of text, anchor, task and admissible actions together: a message to a client holds at most 64 MiB, and
several of them. The largest screen of Atari takes 0.6 MB, written out as numbers."""
MAX_WARNINGS = 16
MAX_CALL_S = 86_400.0
PLAIN = frozenset((str,))


_action_key = lru_cache(16_384)(action_digest)
"""Actions recur, and their digest takes a tenth of a light step's time."""


def _plain(value: Any) -> object:
    """The content of NumPy's and PyTorch's values; TypeError: it is another type."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"got {came(value)}")


_canonical = msgspec.msgpack.Encoder(order="deterministic", enc_hook=_plain)


def state_key(state: object) -> bytes:
    """Digest of an exact state, 16 bytes. Sets and dict keys count without order.

    Raises:
        ContractError: `state` holds something other than plain values.
    """
    try:
        body = _canonical.encode(state)
    except Exception as error:
        wanted = "plain values (numbers of 64 bits, texts, tuples, lists, sets, dicts)"
        raise ContractError(f"state(): want {wanted}, but {named(error)}") from error
    return blake2b(body, digest_size=16).digest()


class Episode:
    """A live environment and its history. Turns are counted and limited here, not by authors."""

    def __init__(self, environment: Environment, kwargs: EnvironmentKwargs) -> None:
        self._environment = environment
        self._max_turns = kwargs.max_turns
        self._origin: tuple[int, str] = (0, "")
        self._actions: list[str] = []
        self._score = 0.0
        self._admissible: tuple[str, ...] = ()

    @property
    def score(self) -> float:
        """Score of the episode so far."""
        return self._score

    @property
    def deterministic(self) -> bool:
        """Whether a replay of the actions rebuilds this session."""
        return flag("deterministic", self._environment.deterministic)

    @cached_property
    def longest_call_s(self) -> float:
        """How long one call may show no life, seconds; 0: as long as usual."""
        found = number("longest_call_s", self._environment.longest_call_s)
        if not 0 <= found <= MAX_CALL_S:
            raise ContractError(f"longest_call_s: want seconds from 0 to {MAX_CALL_S:g}, got {came(found)}")
        return found

    @cached_property
    def consults(self) -> bool:
        """Whether `consult` is to be called before each step."""
        return flag("consults", self._environment.consults)

    def consult(self, action: str, response_tokens: int) -> None:
        """The work that the next step waits for, in a thread of the session's own."""
        self._environment.consult(action, response_tokens)

    def reset(self, seed: int, split: str) -> KeyedObservation:
        """First observation of the task. ContractError: it is none."""
        self._origin = (seed, split)
        return self._keyed("reset", self._environment.reset(seed, split))

    def warnings(self) -> tuple[str, ...]:
        """Notes for the user, at most 16 sentences. ContractError: these are no texts."""
        return texts("warnings()", self._environment.warnings())[:MAX_WARNINGS]

    def tools(self) -> str:
        """The tools whose calls are its actions, as JSON; empty: there are none. ContractError: these are no tools."""
        return tools_json(self._environment.tools)

    def step(self, request: int, action: str, response_tokens: int = 0) -> Stepped:
        """Apply one action; the answer to `request`. ContractError: what came back is no sound outcome."""
        outcome = self._environment.answer(action, response_tokens)
        if not isinstance(outcome, Outcome):
            raise ContractError(f"step: want an Outcome, got {came(outcome)}")
        self._actions.append(action)
        valid = self._valid(action, outcome.action_valid)
        reward = checked_reward("reward", outcome.reward)
        score = self._score + reward if outcome.score is None else outcome.score
        self._score = number("score", score)
        observation = self._keyed("observation", outcome.observation)
        terminated = flag("terminated", outcome.terminated)
        truncated = flag("truncated", outcome.truncated)
        out_of_turns = len(self._actions) >= self._max_turns
        return Stepped(
            request=request,
            observation=observation,
            reward=reward,
            score=self._score,
            won=flag("won", outcome.won),
            terminated=terminated,
            truncated=not terminated and (truncated or out_of_turns),
            action_valid=valid,
            rewards=checked_rewards("rewards", outcome.rewards),
            judge_tokens=whole("judge_tokens", outcome.judge_tokens, least=0),
            action_key=_action_key(action if outcome.executed is None else text("executed", outcome.executed)),
        )

    def close(self) -> None:
        """Free what the environment holds."""
        self._environment.close()

    def _valid(self, action: str, said: bool | None) -> bool:
        """The author's verdict; without one, whether the action was among those shown last."""
        if said is None:
            return not self._admissible or action in self._admissible
        return flag("action_valid", said)

    def _keyed(self, field: str, observation: Observation) -> KeyedObservation:
        """Add its keys and the digest of all of it. ContractError: a part of it is not what it must be."""
        if not isinstance(observation, Observation):
            raise ContractError(f"{field}: want an Observation, got {came(observation)}")
        shown, anchor, task, actions = _checked(observation)
        self._admissible = actions
        state = self._environment.state()
        if state is None:
            state = (self._origin, self._actions)
        try:
            keys = (anchor_digest(anchor), state_key(state))
            parts = (shown, anchor, *keys, task, actions)
            body = packed(parts)
        except UnicodeEncodeError:
            _check_each(observation)
            raise
        if len(body) > MAX_OBSERVATION_BYTES:
            what = "the observation: text, anchor, task and admissible_actions"
            raise ContractError(f"{what}: want at most {MAX_OBSERVATION_BYTES} bytes in all, got {len(body)}")
        return KeyedObservation(*parts, blake2b(body, digest_size=16).digest())


Shown = tuple[str, str, str, tuple[str, ...]]
"""Text, anchor, task and admissible actions."""


def _checked(observation: Observation) -> Shown:
    """The observation, of exactly these types. ContractError names the field that has another. Called for every step:
    the usual types pass by one comparison each."""
    shown, task, actions = observation.text, observation.task, observation.admissible_actions
    anchor = shown if observation.anchor is None else observation.anchor
    plain = type(shown) is str and type(anchor) is str and type(task) is str and type(actions) is tuple
    return (
        (shown, anchor, task, actions) if plain and PLAIN.issuperset(map(type, actions)) else _check_each(observation)
    )


def _check_each(observation: Observation) -> Shown:
    """Check the fields one by one as `_checked` does, and whether each text can be sent."""
    shown = text("text", observation.text)
    anchor = shown if observation.anchor is None else text("anchor", observation.anchor)
    task = text("task", observation.task)
    return shown, anchor, task, texts("admissible_actions", observation.admissible_actions)
