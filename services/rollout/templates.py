"""Renders a scene as text: the job's template, and the tokenizer's chat template around it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, datetime, time
from typing import Any, Literal

import msgspec
from jinja2 import TemplateError, TemplateSyntaxError, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from pydantic import JsonValue

from services.contracts.templates import NONE, SCENE, TURN, template_file
from services.contracts.templates.bounded import BoundedSandbox
from services.contracts.templates.sandbox import scene_sandbox
from services.rollout.errors import AttemptFailed, TokenizerError
from services.rollout.tool_calls import FORMATS, Call, CallFormat, Tool, format_of


class Scene(msgspec.Struct, frozen=True):
    """Everything that a prompt may show. No turn counter: equal states give equal prompts."""

    task: str
    observation: str
    history: tuple[tuple[str, str], ...] = ()
    """(observation, action) of the turns before, oldest first."""
    admissible_actions: tuple[str, ...] = ()
    results: tuple[str, ...] = ()
    """Results of the first calls of a reply with several; the observation is the last one's."""
    task_hidden: bool = False
    """The task is a placeholder that the platform wrote; every other text here comes from outside."""

    def quoted(self, quote: Callable[[str], str]) -> Scene:
        """The scene with every text from outside passed through `quote`."""
        return Scene(
            self.task if self.task_hidden else quote(self.task),
            quote(self.observation),
            tuple((quote(seen), quote(action)) for seen, action in self.history),
            tuple(map(quote, self.admissible_actions)),
            tuple(map(quote, self.results)),
            self.task_hidden,
        )

    @property
    def folded(self) -> Scene:
        """Put all results into the observation, for a prompt in which they have no place of their own."""
        text = "\n\n".join((*self.results, self.observation))
        return msgspec.structs.replace(self, observation=text, results=())


class SceneTemplate:
    """One form of a template of the platform's or of the environment's own.

    Args:
        template: `<name>/<version>`, a known one.
        form: one of `FORMS`.
        brought: the environment's own files.
        turn: what it says where a conversation goes on: the task and its instructions were given already.
    """

    def __init__(self, template: str, form: str, brought: Mapping[str, str] = NONE, *, turn: bool = False) -> None:
        self.name = f"{template} {form}"
        self._without_task = turn
        words_alone = form == "plain" or not turn  # the vocabulary of a plain form may hold no other words
        file = template_file(template, form, brought) if words_alone else TURN
        self._sandbox = scene_sandbox(brought)
        self._template = self._sandbox.get_template(file)

    def render(self, scene: Scene) -> str:
        """The scene in words. AttemptFailed: an environment's own template fails on it."""
        if self._without_task:
            scene = msgspec.structs.replace(scene, task="")
        try:
            values = {name: getattr(scene, name) for name in SCENE}
            return self._sandbox.bounded(self._template, **values).strip()
        except Exception as error:  # a template is a program of others
            raise AttemptFailed(f"the prompt template {self.name}: {error}") from error


_REPLY = "Reply 5f3a."
"""Stands for what an assistant said; no template writes it by itself."""
_PROBE = "Task: fetch 1 apple.\nYou see: a door, 2 rooms."
"""A prompt as scenes are; no template has a reason to change a word of it."""


@dataclass(frozen=True)
class ChatOptions:
    """A job's settings of its tokenizer's chat template."""

    kwargs: Mapping[str, JsonValue] = field(default_factory=dict)
    """Further values for the template; they come before special tokens of the same name."""
    today: date | None = None
    """The time of a template's clock; None: no clock. It never moves, because equal states must give equal prompts."""
    system_role: Literal["system", "user"] = "system"
    """`user`: the system message begins the user's turn."""
    stop_texts: tuple[str, ...] = ()
    """Tokens that end an assistant's turn, as text."""
    tools: tuple[Tool, ...] = ()
    """Tools that the policy may call."""


class ChatTemplate:
    """A tokenizer's chat template around one user message, up to the assistant's turn; renders as transformers does.

    Args:
        source: Jinja, as the tokenizer's files hold it.
        special: names such as `eos_token` -> their text.

    Raises:
        TokenizerError: the source is no Jinja template.
    """

    def __init__(self, source: str, special: Mapping[str, str], options: ChatOptions = ChatOptions()) -> None:
        sandbox = self._sandbox = BoundedSandbox(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, "jinja2.ext.loopcontrols"]
        )
        sandbox.globals["raise_exception"] = _refuse
        if options.today is not None:
            sandbox.globals["strftime_now"] = datetime.combine(options.today, time()).strftime
        sandbox.filters["tojson"] = sandbox.guarded(_json)  # jinja's own is made for HTML: it writes < as \u003c
        try:
            self._template = sandbox.from_string(source)
        except TemplateSyntaxError as error:
            raise TokenizerError(f"the tokenizer's chat template, line {error.lineno}: {error.message}") from error
        self._source, self._options = source, options
        self._values = {**special, **options.kwargs}

    def render(self, prompt: str, system: str | None = None) -> str:
        """The conversation. AttemptFailed: the tokenizer's template refuses it."""
        messages: list[dict[str, object]] = [{"role": "user", "content": prompt}]
        if system is not None and self._options.system_role == "user":
            messages = [{"role": "user", "content": f"{system}\n\n{prompt}"}]
        elif system is not None:
            messages.insert(0, {"role": "system", "content": system})
        try:
            return self._write(messages, add_generation_prompt=True, tools=self._options.tools)
        except Exception as error:  # a template is a program of others
            raise AttemptFailed(f"the tokenizer's chat template: {error}") from error

    def whole(self, messages: Sequence[Mapping[str, object]]) -> str:
        """A conversation of somebody else's, up to the assistant's turn. AttemptFailed: the template refuses it."""
        try:
            return self._write(messages, add_generation_prompt=True, tools=self._options.tools)
        except Exception as error:  # a template is a program of others
            raise AttemptFailed(f"the tokenizer's chat template: {error}") from error

    def check(self, system: str | None = None) -> None:
        """Make sure that the template writes all that it is given; one that loses it would have the policy play blind.

        Raises:
            TokenizerError: it refuses the conversation, omits the prompt or the system message, or reads none of the
                values that the job has for it.
        """
        unread = [name for name in self._options.kwargs if not re.search(rf"\b{re.escape(name)}\b", self._source)]
        if unread:
            raise TokenizerError(
                f"chat_template_kwargs: want values that the tokenizer's chat template reads, got {', '.join(unread)}"
            )
        text = self._trial(None)
        if _PROBE not in text:
            raise TokenizerError(
                "the tokenizer's chat template omits the message's text: want a template that writes messages whose "
                f"content is a text, got {text[:80]!r}"
            )
        if system is not None:
            self._check_system(system)

    def _check_system(self, system: str) -> None:
        way = "" if self._options.system_role == "user" else "; system_role: user puts it into the user's turn"
        try:
            text = self._trial(system)
        except TokenizerError as error:
            raise TokenizerError(f"system: {error}{way}") from error
        if system.strip() not in text or _PROBE not in text:
            raise TokenizerError(f"system: the tokenizer's chat template omits the system message{way}")

    def _trial(self, system: str | None) -> str:
        try:
            return self.render(_PROBE, system)
        except AttemptFailed as error:
            clock = "; want a chat_template_date" if "strftime_now" in str(error) and not self._options.today else ""
            raise TokenizerError(f"{error}{clock}") from error

    def behind(self, messages: Sequence[Mapping[str, object]]) -> str:
        """The text behind an assistant's turn where these messages come next, up to the assistant's next turn. The
        end of the turn stands first, where the template writes one. AttemptFailed: the template refuses it."""
        (_, *rest) = self._going_on({"role": "assistant", "content": _REPLY}, messages).split(_REPLY, 1)
        if not rest:
            raise AttemptFailed("the tokenizer's chat template omits what the assistant said before")
        ended = rest[0].lstrip()
        return ended if ended.startswith(self._options.stop_texts) else rest[0]

    def behind_calls(
        self, calls: Sequence[Call], results: Sequence[str], further: Sequence[Mapping[str, object]] = ()
    ) -> str:
        """The text behind an assistant's turn that calls tools where these results come next, one for each call, and
        then further messages; the end of the turn stands first. AttemptFailed: the template refuses it, or does not
        end that turn."""
        made = [Call(call.name, {"argument": _REPLY}) for call in calls]
        (_, *rest) = self._going_on(_said(made), [*_given(made, results), *further]).split(_REPLY, len(calls))
        if len(rest) < len(calls):
            raise AttemptFailed("the tokenizer's chat template omits calls of tools")
        ends = [place for stop in self._options.stop_texts if (place := rest[-1].find(stop)) >= 0]
        if not ends:
            raise AttemptFailed("the tokenizer's chat template does not end a turn that calls tools")
        return rest[-1][min(ends) :]

    def _going_on(self, reply: Mapping[str, object], messages: Sequence[Mapping[str, object]]) -> str:
        try:
            return self._write([{"role": "user", "content": "Hello."}, reply, *messages], add_generation_prompt=True)
        except Exception as error:  # a template is a program of others
            raise AttemptFailed(f"the tokenizer's chat template, in a conversation: {error}") from error

    def check_turns(self) -> None:
        """Make sure that a conversation can go on. Raises TokenizerError."""
        try:
            text = self.behind([{"role": "user", "content": _PROBE}])
        except AttemptFailed as error:
            raise TokenizerError(f"interaction: {error}") from error
        if _PROBE not in text:
            raise TokenizerError("interaction: the tokenizer's chat template omits the second message's text")

    def call_format(self) -> tuple[CallFormat, bool]:
        """How the model's calls are written, and whether a turn may hold several.

        Raises:
            TokenizerError: the template does not write tools, calls or results, or calls in a format that is not ours.
        """
        tool = str(self._options.tools[0]["name"])
        if tool not in self._trial(None):
            raise TokenizerError("prompt_form: tools: the tokenizer's chat template does not write tools")
        call = Call(tool, {"argument": _REPLY})
        try:
            written = self._going_on(_said([call]), ()).partition("Hello.")[2]
            given = self.behind_calls([call], [_PROBE])
        except AttemptFailed as error:
            raise TokenizerError(f"prompt_form: tools: {error}") from error
        found = format_of(written)
        if found is None:
            known = ", ".join(one.name for one in FORMATS)
            raise TokenizerError(
                f"prompt_form: tools: want a chat template that writes calls as one of {known}, got {written[:160]!r}"
            )
        if _PROBE not in given and json.dumps(_PROBE)[1:-1] not in given:
            raise TokenizerError("prompt_form: tools: the tokenizer's chat template omits what a tool gave")
        with suppress(AttemptFailed):
            self.behind_calls([call, call], [_PROBE, _PROBE])
            return found, True
        return found, False

    def behind_a_reply(self) -> str:
        """The text that the template writes behind an assistant's turn; "" where it refuses such a conversation."""
        reply, user = "Understood.", {"role": "user", "content": "Hello."}
        messages = [user, {"role": "assistant", "content": reply}]
        behind = ""
        with suppress(Exception):  # a template is a program of others, and this question is no part of its job
            for conversation in (messages, [*messages, user]):  # some mark a turn's end by the next one's beginning
                text = self._write(conversation, add_generation_prompt=False)
                behind = behind or text.partition(reply)[2].lstrip()
        return behind

    def _write(
        self, messages: Sequence[Mapping[str, object]], *, add_generation_prompt: bool, tools: Sequence[Tool] = ()
    ) -> str:
        # transformers passes tools and documents always, and templates ask whether they are None
        functions = [{"type": "function", "function": dict(tool)} for tool in tools]
        given: dict[str, object] = {"tools": functions or None, "documents": None}
        return self._sandbox.bounded(
            self._template, **given, messages=messages, add_generation_prompt=add_generation_prompt, **self._values
        )


def _said(calls: Sequence[Call]) -> dict[str, object]:
    """An assistant's message that calls tools."""
    made = [
        {"type": "function", "id": call_id(place), "function": {"name": call.name, "arguments": call.arguments}}
        for place, call in enumerate(calls)
    ]
    return {"role": "assistant", "content": "", "tool_calls": made}


def _given(calls: Sequence[Call], results: Sequence[str]) -> list[dict[str, object]]:
    """The messages with what the calls gave."""
    return [
        {"role": "tool", "content": result, "name": call.name, "tool_call_id": call_id(place)}
        for place, (call, result) in enumerate(zip(calls, results, strict=True))
    ]


def call_id(place: int) -> str:
    """Nine letters and digits: what Mistral's templates ask for."""
    return f"call{place:05d}"


class _Generation(Extension):
    """`{% generation %}` marks what the assistant says, for training on chats; what it encloses is written as it is."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        inner = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(inner, lineno=line)


def _json(value: object, ensure_ascii: bool = False, indent: int | None = None, **options: Any) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **options)


def _refuse(message: str) -> None:
    raise TemplateError(message)
