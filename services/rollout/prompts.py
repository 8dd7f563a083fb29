"""What the policy is shown in one step: versioned templates, and the token budget.

A prompt is a function of the step alone (task, last K turns, observation, admissible actions): no turn counter and no
other trace of time, so that equal states give equal prompts. A template never changes; a new layout gets a new name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Protocol

import msgspec
from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from services.rollout.errors import AttemptFailed, PromptTooLong
from services.rollout.tokens import PolicyTokens


class Scene(msgspec.Struct, frozen=True):
    """Everything that a prompt may show."""

    task: str
    observation: str
    history: tuple[tuple[str, str], ...] = ()
    """(observation, action) of the turns before, oldest first."""
    admissible_actions: tuple[str, ...] = ()


class Template(Protocol):
    """A way to write a scene down."""

    name: str

    def render(self, scene: Scene) -> str:
        """The prompt's text, special tokens included."""


PLAIN_LAYOUTS = {
    "plain/1": "{task} . {history}{observation} act",
    "plain/2": "{history}{observation} {task} act",
}
"""Words as they are. `history` is "<observation> <action> . " for each turn before."""
SUITED_LAYOUTS = {"plain": "plain/1", "grid": "plain/1"}
"""The layout for what an environment names as the template that suits it; any other name: that of `plain`."""


class PlainTemplate:
    """Words as they are, for policies whose tokenizer was made from the environment's vocabulary."""

    def __init__(self, name: str) -> None:
        self.name, self._layout = name, PLAIN_LAYOUTS[name]

    @property
    def words(self) -> list[str]:
        """What the layout itself adds to the scene's words; a tokenizer must know them."""
        return re.sub(r"{\w+}", " ", self._layout).split()

    def render(self, scene: Scene) -> str:
        """The layout filled in, words parted by one space."""
        history = "".join(f"{observation} {action} . " for observation, action in scene.history)
        text = self._layout.format(task=scene.task, history=history, observation=scene.observation)
        return " ".join(text.split())


CHAT_SYSTEM = (
    "You act in an environment, one action per turn, to fulfil the task. "
    "Think if it helps. End your reply with exactly one action between <action> and </action>."
)


class ChatTemplate:
    """The tokenizer's own chat template around a system and a user message.

    No clock is offered to the template: some write today's date, and equal states must give equal prompts.
    """

    name = "chat/1"

    def __init__(self, source: str, special: dict[str, str]) -> None:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.globals["raise_exception"] = _refuse
        # marks what the assistant says, for training on chats; it renders to nothing
        self._template = environment.from_string(re.sub(r"{%-?\s*(end)?generation\s*-?%}", "", source))
        self._special = special

    def render(self, scene: Scene) -> str:
        """The conversation up to the assistant's turn. AttemptFailed: the tokenizer's template refuses it."""
        messages = [
            {"role": "system", "content": CHAT_SYSTEM},
            {"role": "user", "content": "\n\n".join(_paragraphs(scene))},
        ]
        try:
            return self._template.render(messages=messages, add_generation_prompt=True, **self._special)
        except TemplateError as error:
            raise AttemptFailed(f"the tokenizer's chat template: {error}") from error


class PromptWriter:
    """Scenes to token ids within a budget.

    Args:
        max_tokens: longest prompt, tokens.
    """

    def __init__(self, template: Template, tokens: PolicyTokens, max_tokens: int) -> None:
        self.template, self._tokens, self._max_tokens = template, tokens, max_tokens
        self.cut_observations = 0
        """Prompts whose observation had to be cut so far."""

    def ids(self, scene: Scene) -> bytes:
        """int32 little-endian [P], P <= max_tokens.

        What does not fit goes in this order: turns of the history, oldest first; the list of admissible actions; words
        of the observation, last first.

        Raises:
            PromptTooLong: the task alone exceeds the budget.
        """
        for reduced in _reductions(scene):
            ids = self._tokens.encode(self.template.render(reduced))
            if self._fits(ids):
                return ids
        self.cut_observations += 1
        return self._cut(msgspec.structs.replace(scene, history=(), admissible_actions=()))

    def _cut(self, scene: Scene) -> bytes:
        words = scene.observation.split(" ")
        kept, too_many = -1, len(words)
        best = b""
        while too_many - kept > 1:
            middle = (kept + too_many) // 2
            shorter = msgspec.structs.replace(scene, observation=" ".join(words[:middle]))
            ids = self._tokens.encode(self.template.render(shorter))
            if self._fits(ids):
                kept, best = middle, ids
            else:
                too_many = middle
        if kept < 0:
            raise PromptTooLong(f"max_prompt_tokens: want <= {self._max_tokens}, the task alone takes more")
        return best

    def _fits(self, ids: bytes) -> bool:
        return len(ids) <= 4 * self._max_tokens


def chosen_template(wanted: str, suited: str, tokens: PolicyTokens) -> Template:
    """The template of a job.

    Args:
        wanted: `plain`, `chat`, or `auto`: chat where the tokenizer has a chat template.
        suited: what the environment names.

    Raises:
        AttemptFailed: `chat` is wanted of a tokenizer without a chat template.
    """
    if wanted == "chat" or (wanted == "auto" and tokens.chat_template):
        if not tokens.chat_template:
            raise AttemptFailed("prompt_template: want plain, got chat: the model's tokenizer has no chat template")
        return ChatTemplate(tokens.chat_template, tokens.special)
    return PlainTemplate(SUITED_LAYOUTS.get(suited, SUITED_LAYOUTS["plain"]))


def _reductions(scene: Scene) -> Iterator[Scene]:
    yield scene
    for first in range(1, len(scene.history) + 1):
        yield msgspec.structs.replace(scene, history=scene.history[first:])
    if scene.admissible_actions:
        yield msgspec.structs.replace(scene, history=(), admissible_actions=())


def _paragraphs(scene: Scene) -> Iterator[str]:
    if scene.task:
        yield f"Task: {scene.task}"
    if scene.history:
        turns = (f"You saw: {observation}\nYou did: {action}" for observation, action in scene.history)
        yield "\n".join(["Your last turns:", *turns])
    yield f"You see: {scene.observation}"
    if scene.admissible_actions:
        yield "\n".join(["You can do one of these:", *(f"- {action}" for action in scene.admissible_actions)])
    yield "Reply with <action>your action</action>."


def _refuse(message: str) -> None:
    raise TemplateError(message)
