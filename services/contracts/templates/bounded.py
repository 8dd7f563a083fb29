"""A Jinja sandbox for templates of others: one that never ends, or writes without end, is an error.

Bounds count turns of loops, calls, and characters, so that they mean the same on every machine; CPU time bounds what
these miss. Jinja's own sandbox bounds `range` alone.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from functools import wraps

from jinja2 import Template, nodes
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

MOST_TURNS = 200_000
"""Turns of loops and calls of one rendering."""
MOST_CHARACTERS = 1 << 22
"""Characters of a text, or elements of a list, that a template may make. A list counts with all that it holds, as often
as it holds it, because writing it takes that much."""
MOST_MADE = 1 << 27
"""Characters of all texts and lists of one rendering together."""
_ELEMENT = 8
"""Characters that an element of a list counts for there."""
MOST_CPU_S = 10.0
"""CPU time of one rendering."""
_LARGE_WIDTH = re.compile(r"\d{7,}|%[^a-zA-Z%]*\*|\{[^{}]*:[^{}]*\{")
"""Matches a large width in a format, or one that is a value itself."""


class TemplateUnbounded(Exception):
    """A template takes more turns, characters or time than any prompt needs."""


class BoundedSandbox(ImmutableSandboxedEnvironment):
    """Renders with `bounded`. One rendering at a time."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self, **options: object) -> None:
        super().__init__(**options, finalize=_writable)
        self._turns, self._made, self._until_cpu_s = 0, 0, float("inf")
        self.filters = {name: self.guarded(one) for name, one in self.filters.items()}
        self.filters["_checked"] = self.checked

    def bounded(self, template: Template, **values: object) -> str:
        """The text. Raises TemplateUnbounded, and whatever the template raises."""
        self._turns, self._made, self._until_cpu_s = 0, 0, time.thread_time() + MOST_CPU_S
        parts, length = [], 0
        for part in template.generate(**values):
            parts.append(part)
            length += len(part)
            _limit(length)
        return "".join(parts)

    def turn(self) -> str:
        """Count a turn; every loop's body begins with it."""
        self._turns += 1
        if self._turns > MOST_TURNS:
            raise TemplateUnbounded(f"want at most {MOST_TURNS:,} turns of loops and calls, it takes more")
        if time.thread_time() > self._until_cpu_s:
            raise TemplateUnbounded(f"want at most {MOST_CPU_S:g} s, it takes more")
        return ""

    def joined(self, *parts: object) -> str:
        """The result of `~`."""
        _limit(_written(parts))
        return str(self.checked("".join(map(str, parts))))

    def checked(self, value: object) -> object:
        """The value that a template has made; it counts, whether it is kept or not."""
        size = value.bit_length() if isinstance(value, int) else _size(value)
        _limit(size)
        self._made += size * (_ELEMENT if isinstance(value, list | tuple) else 1)
        if self._made > MOST_MADE:
            raise TemplateUnbounded(f"want at most {MOST_MADE:,} characters of all texts, it makes more")
        return value

    def guarded(self, filter_: Callable[..., object]) -> Callable[..., object]:
        """A filter within the bounds."""

        @wraps(filter_)
        def guarded(*args: object, **kwargs: object) -> object:
            self.turn()
            given = [one for one in args if not isinstance(one, Context | BoundedSandbox | nodes.EvalContext)]
            _check_growth(given[0] if given else None, filter_.__name__, tuple(given[1:]), kwargs)
            return self.checked(filter_(*args, **kwargs))

        return guarded

    def call(self, context: Context, function: object, /, *args: object, **kwargs: object) -> object:
        self.turn()
        if function == self.turn:
            return ""
        method = getattr(function, "__wrapped__", function)  # str.format is wrapped by the sandbox
        _check_growth(getattr(method, "__self__", None), getattr(method, "__name__", ""), args, kwargs)
        return self.checked(super().call(context, function, *args, **kwargs))

    def wrap_str_format(self, value: object) -> Callable[..., str] | None:
        if (wrapped := super().wrap_str_format(value)) is not None:
            _check_growth(getattr(value, "__self__", None), "format", (), {})
        return wrapped

    def call_binop(self, context: Context, operator: str, left: object, right: object) -> object:
        if operator == "*":
            _limit(_size(left) * right if isinstance(right, int) else 0)
            _limit(_size(right) * left if isinstance(left, int) else 0)
        elif operator == "**":
            _limit(abs(right) * 8 if isinstance(right, int) else 0)
        elif operator == "%" and isinstance(left, str):
            _check_growth(left, "format", (right,), {})
        return self.checked(super().call_binop(context, operator, left, right))

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree: nodes.Template = _Counting().visit(super()._parse(source, name, filename))
        return tree


class _Counting(NodeTransformer):
    """Has loops count their turns, and bounds what `~` and blocks that are set make."""

    def visit_For(self, node: nodes.For) -> nodes.Node:
        self.generic_visit(node)
        count = nodes.Call(nodes.EnvironmentAttribute("turn"), [], [], None, None, lineno=node.lineno)
        node.body.insert(0, nodes.ExprStmt(count, lineno=node.lineno))
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        return nodes.Call(nodes.EnvironmentAttribute("joined"), node.nodes, [], None, None, lineno=node.lineno)

    def visit_AssignBlock(self, node: nodes.AssignBlock) -> nodes.Node:
        self.generic_visit(node)
        node.filter = nodes.Filter(node.filter, "_checked", [], [], None, None, lineno=node.lineno)
        return node


def _size(value: object) -> int:
    return len(value) if isinstance(value, str | bytes | list | tuple) else 0


def _limit(size: int) -> None:
    if size > MOST_CHARACTERS:
        raise TemplateUnbounded(f"want at most {MOST_CHARACTERS:,} characters, it makes more")


def _writable(value: object) -> object:
    """A value that is to be written."""
    _limit(_written(value))
    return value


def _written(value: object, known: dict[int, int] | None = None) -> int:
    """Characters, at least, that a value takes where it is written: of what it refers to twice, twice as many."""
    if isinstance(value, str | bytes):
        return len(value)
    if not isinstance(value, list | tuple | dict):
        return 1
    known = {} if known is None else known
    if id(value) not in known:
        parts = [*value, *value.values()] if isinstance(value, dict) else value
        known[id(value)] = sum(_written(part, known) for part in parts)
    return known[id(value)]


def _check_growth(subject: object, function: str, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
    """Refuse calls that make a text from `subject` whose widths, counts, formats or replacements let it grow beyond
    bounds."""
    given = [*args, *kwargs.values()]
    _limit(max(map(_written, (subject, *given)), default=0))
    if not isinstance(subject, Iterable):
        return
    widths = [abs(one) for one in given if isinstance(one, int)]
    _limit(max(widths, default=0))
    kind = function.removeprefix("do_")
    if isinstance(subject, str):
        _limit(_text_growth(subject, kind, given, max(widths, default=4)))
    if kind == "join":
        both = [subject, *given]
        elements = [element for one in both if isinstance(one, list | tuple) for element in one]
        separator = max((_size(one) for one in both if isinstance(one, str)), default=0)
        _limit(sum(map(_written, elements)) + separator * len(elements))


def _text_growth(text: str, kind: str, given: list[object], width: int) -> int:
    """Characters, at most, of what a filter or a method makes of a text, where a number or another text decides it."""
    if kind in ("format", "format_map"):
        if _LARGE_WIDTH.search(text):
            return MOST_CHARACTERS + 1
        return (text.count("%") + text.count("{")) * max(map(_written, given), default=0)
    if kind == "replace":
        return len(text) * max(map(_size, given[1:2]), default=0)
    if kind == "translate":
        return len(text) * max(map(_written, given), default=0)
    if kind in ("indent", "expandtabs"):
        indents = [_size(one) for one in given if isinstance(one, str)]
        return (text.count("\n") + text.count("\t")) * max([width, *indents])
    return 0
