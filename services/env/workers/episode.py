"""One session inside a worker: an environment, its history, its keys, and the check of what its author hands back."""

import math
from hashlib import blake2b

import msgspec

from gigpo.env.environment import Environment, EnvironmentKwargs, Observation, Outcome
from gigpo_core.digest import anchor_digest
from services.env.workers.wire import KeyedObservation, Stepped, digest_of

_canonical = msgspec.msgpack.Encoder(order="deterministic")


class ContractError(Exception):
    """An environment handed back what the contract forbids (ENV_BUG)."""


def state_key(state: object) -> bytes:
    """Digest of an exact state, 16 bytes. Sets and dict keys count without order.

    Raises:
        TypeError: `state` holds something other than plain values.
    """
    return blake2b(_canonical.encode(state), digest_size=16).digest()


class Episode:
    """A live environment and its history. Turns are counted and limited here, not by authors."""

    def __init__(self, environment: Environment, kwargs: EnvironmentKwargs) -> None:
        self._environment = environment
        self._max_turns = kwargs.max_turns
        self._origin: tuple[int, str] = (0, "")
        self._actions: list[str] = []
        self._score = 0.0

    @property
    def score(self) -> float:
        """Of the episode so far."""
        return self._score

    @property
    def deterministic(self) -> bool:
        """Whether a replay of the actions rebuilds this session."""
        return self._environment.deterministic

    def reset(self, seed: int, split: str) -> KeyedObservation:
        """First observation of the task. ContractError: it is none."""
        self._origin = (seed, split)
        return self._keyed(self._environment.reset(seed, split))

    def step(self, request: int, action: str, response_tokens: int = 0) -> Stepped:
        """Apply one action; the answer to `request`. ContractError: what came back is no sound outcome."""
        outcome = self._environment.answer(action, response_tokens)
        if not isinstance(outcome, Outcome):
            raise ContractError(f"step must return an Outcome, got {type(outcome).__name__}")
        self._actions.append(action)
        reward = float(outcome.reward)
        self._score = self._score + reward if outcome.score is None else float(outcome.score)
        if not (math.isfinite(reward) and math.isfinite(self._score)):
            raise ContractError(f"reward and score must be finite, got {reward} and {self._score}")
        observation = self._keyed(outcome.observation)
        terminated = bool(outcome.terminated)
        out_of_turns = len(self._actions) >= self._max_turns
        return Stepped(
            request=request,
            observation=observation,
            reward=reward,
            score=self._score,
            won=bool(outcome.won),
            terminated=terminated,
            truncated=not terminated and (bool(outcome.truncated) or out_of_turns),
            action_valid=bool(outcome.action_valid),
            rewards=tuple(map(float, outcome.rewards)),
        )

    def close(self) -> None:
        """Free what the environment holds."""
        self._environment.close()

    def _keyed(self, observation: Observation) -> KeyedObservation:
        if not isinstance(observation, Observation):
            raise ContractError(f"want an Observation, got {type(observation).__name__}")
        anchor = observation.text if observation.anchor is None else observation.anchor
        state = self._environment.state()
        if state is None:
            state = (self._origin, self._actions)
        keys = (anchor_digest(anchor), state_key(state))
        shown = (observation.text, anchor, *keys, observation.task, tuple(observation.admissible_actions))
        return KeyedObservation(*shown, digest_of(*shown))
