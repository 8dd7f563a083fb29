"""The prompt of one step: a scene as token ids, within a budget.

A prompt is a function of the step alone (task, last K turns, observation, admissible actions), so that equal states
give equal prompts; the texts are those of services/contracts/templates.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import msgspec
import structlog

from services.contracts.arrays import pack_int32
from services.rollout.errors import PromptTooLong
from services.rollout.templates import ChatTemplate, Scene, SceneTemplate
from services.rollout.tokens import CACHED_TEXTS, PolicyTokens
from services.rollout.tool_calls import Call

log = structlog.get_logger("rollout")

MOST_OF_A_WORD = 8
"""Tokens: an ordinary word takes fewer. What takes more (a URL, JSON, a line of Chinese) is cut inside."""


@dataclass(frozen=True)
class Wording:
    """How a scene becomes the text that is tokenized."""

    template: SceneTemplate
    chat: ChatTemplate | None = None
    """Around the prompt; None: the prompt stands alone."""
    system: str | None = None

    def text(self, scene: Scene) -> str:
        """Special tokens included. AttemptFailed: the chat template refuses it."""
        prompt = self.template.render(scene)
        if self.chat is not None:
            return self.chat.render(prompt, self.system)
        return prompt if self.system is None else f"{self.system}\n\n{prompt}"

    @property
    def name(self) -> str:
        """Name for people."""
        return self.template.name

    @property
    def ends(self) -> bool:
        """Whether the tokenizer puts its own tokens (BOS) at the ends; a chat template writes them itself."""
        return self.chat is None


@dataclass(frozen=True)
class TurnWording:
    """How a scene becomes what the environment says in a conversation that goes on."""

    template: SceneTemplate
    chat: ChatTemplate | None = None
    ends = False

    @property
    def name(self) -> str:
        """Name for people."""
        return self.template.name

    def text(self, scene: Scene) -> str:
        """The text behind the policy's reply, up to its next one. AttemptFailed: the chat template refuses it."""
        said = self.template.render(scene)
        return f"\n\n{said}" if self.chat is None else self.chat.behind([{"role": "user", "content": said}])


@dataclass(frozen=True)
class ResultWording:
    """How what tools gave becomes tokens in a conversation that goes on."""

    chat: ChatTemplate
    calls: tuple[Call, ...]
    """Calls of the policy's last reply."""
    name = "the results of tools"
    ends = False

    def text(self, scene: Scene) -> str:
        """The text behind the reply with the calls, up to the next one. AttemptFailed."""
        return self.chat.behind_calls(self.calls, [*scene.results, scene.observation])


class Prompt(NamedTuple):
    """The policy's prompt."""

    ids: bytes
    """int32 little-endian [P]."""
    cut: bool
    """The end of the observation is missing."""


class PromptWriter:
    """Scenes to token ids within a budget.

    Args:
        max_tokens: longest prompt, tokens.
    """

    def __init__(self, wording: Wording | TurnWording | ResultWording, tokens: PolicyTokens, max_tokens: int) -> None:
        self.wording, self._tokens, self._max_tokens = wording, tokens, max_tokens
        self.cut_observations = 0
        """Prompts whose observation had to be cut so far."""
        self._encode = lru_cache(CACHED_TEXTS)(self._encoded)  # states recur, and rendering takes longer than looking

    def ids(self, scene: Scene) -> bytes:
        """The ids of `write` alone."""
        return self.write(scene).ids

    def write(self, scene: Scene) -> Prompt:
        """The prompt, P <= max_tokens.

        A longer prompt is cut in this order: turns of the history, oldest first; the list of admissible actions; the
        end of the observation, at a word, or inside of one where whole words would leave much of the budget unused.
        The task never goes.

        Raises:
            PromptTooLong: without all of that it is still too long.
        """
        for reduced in _reductions(scene):
            ids = self._encode(reduced)
            if self._fits(ids):
                return Prompt(ids, cut=False)
        ids = self._cut(msgspec.structs.replace(scene, history=(), admissible_actions=()))
        if not self.cut_observations:
            log.warning("observations are cut to fit max_prompt_tokens", max_prompt_tokens=self._max_tokens)
        self.cut_observations += 1
        return Prompt(ids, cut=True)

    def _cut(self, scene: Scene) -> bytes:
        bare = self._beginning(scene, 0)
        if not self._fits(bare):
            raise PromptTooLong(
                f"max_prompt_tokens: want at least {len(bare) // 4} for the task and {self.wording.name} "
                f"alone, got {self._max_tokens}"
            )
        ends = [0, *(word.end() for word in re.finditer(r"\S+", scene.observation))]
        last = self._last_that_fits(scene, ends)
        ids = self._beginning(scene, ends[last])
        unused = self._max_tokens - len(ids) // 4
        if last + 1 < len(ends) and (last == 0 or unused > MOST_OF_A_WORD):
            inside = range(ends[last], ends[last + 1])
            ids = self._beginning(scene, inside[self._last_that_fits(scene, inside)])
        return ids

    def _last_that_fits(self, scene: Scene, ends: Sequence[int]) -> int:
        """Index of the last of the ends, in characters, up to which the observation fits; the first does."""
        return bisect_left(ends, True, lo=1, key=lambda end: not self._fits(self._beginning(scene, end))) - 1

    def _beginning(self, scene: Scene, end: int) -> bytes:
        return self._encode(msgspec.structs.replace(scene, observation=scene.observation[:end]))

    def _encoded(self, scene: Scene) -> bytes:
        # an empty prompt (the task hidden, nothing else shown) still needs a token to begin with
        ids = self._tokens.encode_quoting(lambda quote: self.wording.text(scene.quoted(quote)), ends=self.wording.ends)
        return ids or pack_int32(self._tokens.stop_ids[:1])

    def _fits(self, ids: bytes) -> bool:
        return len(ids) <= 4 * self._max_tokens


def _reductions(scene: Scene) -> Iterator[Scene]:
    yield scene
    for first in range(1, len(scene.history) + 1):
        yield msgspec.structs.replace(scene, history=scene.history[first:])
    if scene.admissible_actions:
        yield msgspec.structs.replace(scene, history=(), admissible_actions=())
