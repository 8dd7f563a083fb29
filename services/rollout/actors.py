"""Who chooses the actions of an episode: the policy, or chance."""

from __future__ import annotations

import random
from typing import Protocol

import msgspec

from services.contracts.arrays import pack_float32, pack_int32
from services.rollout.errors import NoAdmissibleActions
from services.rollout.ports import Ask, Inference, Sampled, Sampling
from services.rollout.reply_format import Projection
from services.rollout.tokens import PolicyTokens

NO_VERSION = -1
"""Version of tokens that no policy sampled."""


class Turn(msgspec.Struct, frozen=True):
    """One step's question to an actor."""

    job_id: str
    group_id: str
    item_id: str
    prompt_ids: bytes
    seed: int
    min_version: int
    admissible_actions: tuple[str, ...]


class Actor(Protocol):
    """Answers a prompt with tokens."""

    async def respond(self, turn: Turn) -> Sampled:
        """The tokens. Raises AttemptFailed."""


class PolicyActor:
    """The job's policy chooses, through the inference service."""

    def __init__(self, inference: Inference, sampling: Sampling) -> None:
        self._inference, self._sampling = inference, sampling

    async def respond(self, turn: Turn) -> Sampled:
        """What a replica sampled. Raises InferenceFault."""
        return await self._inference.generate(
            Ask(
                turn.job_id,
                turn.group_id,
                turn.item_id,
                turn.prompt_ids,
                turn.seed,
                turn.min_version,
                self._sampling,
            )
        )


class RandomActor:
    """Chance chooses among the admissible actions: first a first word, then one of the actions that begin with it.

    So an action that stands for many others (go north, go south, ...) does not crowd out a rare one (take apple).
    """

    def __init__(self, tokens: PolicyTokens, projection: Projection) -> None:
        self._tokens, self._projection = tokens, projection

    async def respond(self, turn: Turn) -> Sampled:
        """The chosen action as the policy would say it; logprobs 0, versions -1. Raises NoAdmissibleActions."""
        if not turn.admissible_actions:
            raise NoAdmissibleActions("actor random: the environment names no admissible actions")
        response = self._tokens.encode_reply(chosen_action(turn.admissible_actions, turn.seed), self._projection.reply)
        length = len(response) // 4
        return Sampled(response, pack_float32([0.0] * length), pack_int32([NO_VERSION] * length), "stop")


def chosen_action(admissible_actions: tuple[str, ...], seed: int) -> str:
    """A random one of >= 1 actions: its first word uniform over the first words, then uniform among those."""
    rng = random.Random(seed)
    first_words = sorted({action.partition(" ")[0] for action in admissible_actions})
    word = rng.choice(first_words)
    return rng.choice([action for action in admissible_actions if action.partition(" ")[0] == word])
