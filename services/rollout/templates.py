"""Renders a scene as text: the job's template, and the tokenizer's chat template around it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import msgspec
from jinja2 import TemplateError, TemplateSyntaxError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from services.contracts.templates import NONE, template_file
from services.contracts.templates.sandbox import scene_sandbox
from services.rollout.errors import AttemptFailed, TokenizerError


class Scene(msgspec.Struct, frozen=True):
    """Everything that a prompt may show. No turn counter: equal states give equal prompts."""

    task: str
    observation: str
    history: tuple[tuple[str, str], ...] = ()
    """(observation, action) of the turns before, oldest first."""
    admissible_actions: tuple[str, ...] = ()
    task_hidden: bool = False
    """The task is a placeholder that the platform wrote; every other text here comes from outside."""

    def quoted(self, quote: Callable[[str], str]) -> Scene:
        """The scene with every text from outside passed through `quote`."""
        return Scene(
            self.task if self.task_hidden else quote(self.task),
            quote(self.observation),
            tuple((quote(seen), quote(action)) for seen, action in self.history),
            tuple(map(quote, self.admissible_actions)),
            self.task_hidden,
        )


class SceneTemplate:
    """One form of a template of the platform's or of the environment's own.

    Args:
        template: `<name>/<version>`, a known one.
        form: `think` or `plain`.
        brought: the environment's own files.
    """

    def __init__(self, template: str, form: str, brought: Mapping[str, str] = NONE) -> None:
        self.name = f"{template} {form}"
        self._template = scene_sandbox(brought).get_template(template_file(template, form, brought))

    def render(self, scene: Scene) -> str:
        """The scene in words. AttemptFailed: an environment's own template fails on it."""
        try:
            return self._template.render(msgspec.structs.asdict(scene)).strip()
        except Exception as error:  # a template is a program of others
            raise AttemptFailed(f"the prompt template {self.name}: {error}") from error


_PROBE = "Task: fetch 1 apple.\nYou see: a door, 2 rooms."
"""A prompt as scenes are; no template has a reason to change a word of it."""


class ChatTemplate:
    """A tokenizer's chat template around one user message, up to the assistant's turn.

    No clock is offered to it: some write today's date, and equal states must give equal prompts.

    Args:
        source: Jinja, as the tokenizer's files hold it.
        special: names such as `eos_token` -> their text.

    Raises:
        TokenizerError: the source is no Jinja template.
    """

    def __init__(self, source: str, special: dict[str, str]) -> None:
        sandbox = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        sandbox.globals["raise_exception"] = _refuse
        sandbox.filters["tojson"] = _json  # jinja's own is made for HTML: it writes < as \u003c
        # marks what the assistant says, for training on chats; it renders to nothing
        plain = re.sub(r"{%-?\s*(end)?generation\s*-?%}", "", source)
        try:
            self._template = sandbox.from_string(plain)
        except TemplateSyntaxError as error:
            raise TokenizerError(f"the tokenizer's chat template, line {error.lineno}: {error.message}") from error
        self._special = special

    def render(self, prompt: str, system: str | None = None) -> str:
        """The conversation. AttemptFailed: the tokenizer's template refuses it."""
        messages = [{"role": "user", "content": prompt}]
        if system is not None:
            messages.insert(0, {"role": "system", "content": system})
        try:
            return self._write(messages, add_generation_prompt=True)
        except Exception as error:  # a template is a program of others
            raise AttemptFailed(f"the tokenizer's chat template: {error}") from error

    def check(self, system: str | None = None) -> None:
        """Make sure that a prompt is in what the template writes; one that loses it would have the policy play blind.

        Raises:
            TokenizerError.
        """
        try:
            text = self.render(_PROBE, system)
        except AttemptFailed as error:
            raise TokenizerError(str(error)) from error
        if _PROBE not in text:
            raise TokenizerError(
                "the tokenizer's chat template omits the message's text: want a template that writes messages whose "
                f"content is a text, got {text[:80]!r}"
            )

    def behind_a_reply(self) -> str:
        """What the template writes behind an assistant's turn; "" where it refuses such a conversation."""
        reply, user = "Understood.", {"role": "user", "content": "Hello."}
        messages = [user, {"role": "assistant", "content": reply}]
        behind = ""
        with suppress(Exception):  # a template is a program of others, and this question is no part of its job
            for conversation in (messages, [*messages, user]):  # some mark a turn's end by the next one's beginning
                text = self._write(conversation, add_generation_prompt=False)
                behind = behind or text.partition(reply)[2].lstrip()
        return behind

    def _write(self, messages: list[dict[str, str]], *, add_generation_prompt: bool) -> str:
        # transformers passes tools and documents always, and templates ask whether they are None
        return self._template.render(
            messages=messages,
            tools=None,
            documents=None,
            add_generation_prompt=add_generation_prompt,
            **self._special,
        )


def _json(value: object, ensure_ascii: bool = False, indent: int | None = None, **options: Any) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **options)


def _refuse(message: str) -> None:
    raise TemplateError(message)
