"""What the policy is shown in one step: a scene as token ids, within a budget.

A prompt is a function of the step alone (task, last K turns, observation, admissible actions), so that equal states
give equal prompts; the texts are those of services/contracts/templates.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import msgspec
import structlog

from services.contracts.arrays import pack_int32
from services.rollout.errors import PromptTooLong
from services.rollout.templates import ChatTemplate, Scene, SceneTemplate
from services.rollout.tokens import CACHED_TEXTS, PolicyTokens

log = structlog.get_logger("rollout")


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


class PromptWriter:
    """Scenes to token ids within a budget.

    Args:
        max_tokens: longest prompt, tokens.
    """

    def __init__(self, wording: Wording, tokens: PolicyTokens, max_tokens: int) -> None:
        self.wording, self._tokens, self._max_tokens = wording, tokens, max_tokens
        self.cut_observations = 0
        """Prompts whose observation had to be cut so far."""
        self._encode = lru_cache(CACHED_TEXTS)(self._encoded)  # states recur, and rendering takes longer than looking

    def ids(self, scene: Scene) -> bytes:
        """int32 little-endian [P], P <= max_tokens.

        What does not fit goes in this order: turns of the history, oldest first; the list of admissible actions; words
        of the observation, last first. The task never goes.

        Raises:
            PromptTooLong: without all of that it is still too long.
        """
        for reduced in _reductions(scene):
            ids = self._encode(reduced)
            if self._fits(ids):
                return ids
        if not self.cut_observations:
            log.warning("observations are cut to fit max_prompt_tokens", max_prompt_tokens=self._max_tokens)
        self.cut_observations += 1
        return self._cut(msgspec.structs.replace(scene, history=(), admissible_actions=()))

    def _cut(self, scene: Scene) -> bytes:
        words = re.findall(r"\s*\S+", scene.observation)
        kept, too_many = 0, len(words) + 1
        best = self._encode(msgspec.structs.replace(scene, observation=""))
        if not self._fits(best):
            raise PromptTooLong(
                f"max_prompt_tokens: want at least {len(best) // 4} for the task and {self.wording.template.name} "
                f"alone, got {self._max_tokens}"
            )
        while too_many - kept > 1:
            middle = (kept + too_many) // 2
            ids = self._encode(msgspec.structs.replace(scene, observation="".join(words[:middle])))
            if self._fits(ids):
                kept, best = middle, ids
            else:
                too_many = middle
        return best

    def _encoded(self, scene: Scene) -> bytes:
        # an empty prompt (the task hidden, nothing else shown) still needs a token to begin with
        ids = self._tokens.encode_quoting(lambda quote: self.wording.text(scene.quoted(quote)))
        return ids or pack_int32(self._tokens.stop_ids[:1])

    def _fits(self, ids: bytes) -> bool:
        return len(ids) <= 4 * self._max_tokens


def _reductions(scene: Scene) -> Iterator[Scene]:
    yield scene
    for first in range(1, len(scene.history) + 1):
        yield msgspec.structs.replace(scene, history=scene.history[first:])
    if scene.admissible_actions:
        yield msgspec.structs.replace(scene, history=(), admissible_actions=())
