"""Actors choose the actions of an episode: the policy, or a random actor."""

from __future__ import annotations

import random
from typing import Protocol

from services.contracts.arrays import pack_float32, pack_int32
from services.contracts.sampling import SampledTokens
from services.rollout.errors import InferenceFault, NoAdmissibleActions
from services.rollout.ports import Ask, Inference
from services.rollout.reply_format import ReplyReader
from services.rollout.tokens import PolicyTokens

NO_VERSION = -1
"""Version of tokens that no policy sampled."""


class Actor(Protocol):
    """Answers a prompt with tokens."""

    async def respond(self, ask: Ask, admissible_actions: tuple[str, ...]) -> SampledTokens:
        """The tokens. Raises AttemptFailed."""


class PolicyActor:
    """The job's policy chooses, through the inference service."""

    def __init__(self, inference: Inference) -> None:
        self._inference = inference

    async def respond(self, ask: Ask, admissible_actions: tuple[str, ...]) -> SampledTokens:
        """A replica's sample. Raises InferenceFault."""
        sampled = await self._inference.generate(ask)
        if ask.item.choices and sampled.response_ids not in ask.item.choices:
            raise InferenceFault(
                f"want one of the {len(ask.item.choices)} replies that guided_decoding allows, got another one; is the "
                "inference service of an earlier release?"
            )
        if ask.sampling.truncated and not sampled.kept:
            raise InferenceFault(
                f"want the tokens among which top_k {ask.sampling.top_k} sampled, got none; is the inference service "
                "of an earlier release?"
            )
        return sampled


class RandomActor:
    """Chance chooses among the admissible actions: first a first word, then one of the actions that begin with it.

    So an action that stands for many others (go north, go south, ...) does not crowd out a rare one (take apple).
    """

    def __init__(self, tokens: PolicyTokens, reader: ReplyReader) -> None:
        self._tokens, self._reader = tokens, reader

    async def respond(self, ask: Ask, admissible_actions: tuple[str, ...]) -> SampledTokens:
        """The chosen action as the policy would say it; logprobs 0, versions -1. Raises NoAdmissibleActions."""
        if not admissible_actions:
            raise NoAdmissibleActions("actor random: the environment names no admissible actions")
        action = chosen_action(admissible_actions, ask.item.seed)
        response = encoded_action(action, self._tokens, self._reader)
        length = len(response) // 4
        return SampledTokens(response, pack_float32([0.0] * length), pack_int32([NO_VERSION] * length), "stop")


def encoded_action(action: str, tokens: PolicyTokens, reader: ReplyReader) -> bytes:
    """The reply that says an action, the stop token included: int32 little-endian [R]."""
    return tokens.encode_said(lambda quote: reader.reply(action, quote))


def chosen_action(admissible_actions: tuple[str, ...], seed: int) -> str:
    """A random one of >= 1 actions: its first word uniform over the first words, then uniform among those."""
    rng = random.Random(seed)
    first_words = sorted({action.partition(" ")[0] for action in admissible_actions})
    word = rng.choice(first_words)
    return rng.choice([action for action in admissible_actions if action.partition(" ")[0] == word])
