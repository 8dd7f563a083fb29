"""The prompts of one episode: each step's prompt alone, or a conversation that grows.

A conversation is kept as tokens. What was sampled is appended as it is, what the environment says is encoded and
appended; nothing is rendered twice.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple, Protocol

import msgspec

from services.rollout.prompts import Prompt, PromptWriter, ResultWording, TurnWording
from services.rollout.templates import ChatTemplate, Scene, SceneTemplate
from services.rollout.tokens import PolicyTokens
from services.rollout.tool_calls import Call


class Shown(NamedTuple):
    """The prompt of a step."""

    ids: bytes
    """int32 little-endian [P]: what is new in it."""
    whole: bytes
    """int32 little-endian: all that the policy sees, `ids` at the end."""
    continues: bool = False
    """The step before stands in front of `ids`."""
    cut: bool = False
    """The end of the observation is missing."""


class Dialogue(Protocol):
    """One episode's prompts, step after step. Use once."""

    overflows: int
    """How often a budget for all of it was outgrown so far."""

    def show(self, scene: Scene, calls: tuple[Call, ...] = ()) -> Shown | None:
        """The next step's prompt; None: nothing more can be said, the episode ends here. Raises AttemptFailed.

        `calls`: of the last reply; the scene is what they gave.
        """

    def heard(self, response_ids: bytes) -> None:
        """The policy's reply to what was shown last, int32 little-endian."""


class SeparateSteps:
    """Each step has a prompt of its own, a function of the scene alone."""

    overflows = 0

    def __init__(self, prompts: PromptWriter) -> None:
        self._prompts = prompts

    def show(self, scene: Scene, calls: tuple[Call, ...] = ()) -> Shown:
        """The scene in words."""
        prompt = self._prompts.write(scene.folded)
        return Shown(prompt.ids, prompt.ids, cut=prompt.cut)

    def heard(self, response_ids: bytes) -> None:
        """The next prompt does not know it."""


class TurnWriter:
    """Writes what comes behind a reply.

    Args:
        chat: the tokenizer's; None: there is none.
        max_tokens: of what is written.
    """

    def __init__(
        self, template: SceneTemplate, chat: ChatTemplate | None, tokens: PolicyTokens, max_tokens: int
    ) -> None:
        self._chat, self._tokens, self._max_tokens = chat, tokens, max_tokens
        self._words = PromptWriter(TurnWording(template, chat), tokens, max_tokens)

    def write(self, scene: Scene, calls: tuple[Call, ...]) -> Prompt:
        """The scene as a message of the user's; what calls gave as messages of their tools. Raises AttemptFailed."""
        if not calls or self._chat is None:
            return self._words.write(scene.folded)
        most = self._max_tokens // (2 * len(calls))  # half is left for the frame of each, and for the last one
        results = tuple(self._tokens.shortened(result, most) for result in scene.results)
        writer = PromptWriter(ResultWording(self._chat, calls), self._tokens, self._max_tokens)
        prompt = writer.write(Scene("", scene.observation, results=results))
        return prompt._replace(cut=prompt.cut or results != scene.results)


class Budget(NamedTuple):
    """How long a conversation may become."""

    max_tokens: int
    """Tokens of everything that is said in it, responses included."""
    reply_tokens: int
    """Room that a reply needs."""
    restarts: bool
    """The conversation begins anew where that is outgrown; False: it ends."""


class Conversation:
    """Everything that was said since it began.

    Args:
        opening: writes what begins a conversation.
        turns: writes what comes behind a reply, the end of the assistant's turn first where its template writes one.
        stop_ids: tokens that end a reply.
    """

    def __init__(self, opening: PromptWriter, turns: TurnWriter, budget: Budget, stop_ids: tuple[int, ...]) -> None:
        self._opening, self._turns, self._budget = opening, turns, budget
        self._stops = {stop.to_bytes(4, "little") for stop in stop_ids}
        self._said = b""
        self.overflows = 0

    def show(self, scene: Scene, calls: tuple[Call, ...] = ()) -> Shown | None:
        """The next prompt: the scene as it begins a conversation, or the new part of it behind the last reply."""
        new = msgspec.structs.replace(scene, history=())
        if not self._said:
            return self._begin(new)
        prompt = self._turns.write(new, calls)
        ids = without_second_end(self._said, prompt.ids, self._stops)
        if (len(self._said) + len(ids)) // 4 + self._budget.reply_tokens <= self._budget.max_tokens:
            self._said += ids
            return Shown(ids, self._said, continues=True, cut=prompt.cut)
        self.overflows += 1
        return self._begin(scene.folded) if self._budget.restarts else None

    def heard(self, response_ids: bytes) -> None:
        """The reply stays as it was sampled."""
        self._said += response_ids

    def _begin(self, scene: Scene) -> Shown:
        prompt = self._opening.write(scene)
        self._said = prompt.ids
        return Shown(prompt.ids, prompt.ids, cut=prompt.cut)


def without_second_end(said: bytes, ids: bytes, stops: Collection[bytes]) -> bytes:
    """What comes behind a reply: the turn's end is written where the policy did not say that very token itself.

    Args:
        said: everything before, int32 little-endian.
        ids: the same of what is appended.
        stops: tokens that end a turn, four bytes each.
    """
    last = said[-4:]
    return ids[4:] if last in stops and ids[:4] == last and len(ids) > 4 else ids
