"""Texts of Gymnasium's boards, observations and spaces: words and numbers, and never the pixels of an image."""

import io
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gymnasium import Space

COLOUR_CODE = re.compile(r"\x1b\[([\d;]*)m")
COLOURS = ("black", "red", "green", "yellow", "blue", "magenta", "cyan", "white")
LAST_ACTION = re.compile(r"\s*\([A-Za-z]+\)\s*")
MOST_NUMBERS = 1000
"""Elements of an observation that is written out: a board of 30 by 30 can be read, more is noise."""
SMALLEST_PICTURE = 24
"""Sides of a greyscale picture are longer; bytes in two dimensions that are shorter are a board."""


class NoWordsError(ValueError):
    """A space has values that no words stand for; the message says which."""


def left_out(space: "Space[Any]") -> list[str]:
    """The parts of an observation that agents cannot be shown, such as "image: pixels of shape (7, 7, 3)".

    NoWordsError: nothing else is in it.
    """
    parts = list(_parts(space, ""))
    silent = [f"{name or 'the observation'}: {reason}" for name, reason in parts if reason]
    if silent and len(silent) == len(parts):
        raise NoWordsError("; ".join(silent))
    return silent


def _parts(space: "Space[Any]", name: str) -> "Iterator[tuple[str, str]]":
    """Each part of a space by its dotted name, and why it has no words; empty: it has."""
    from gymnasium import spaces

    if isinstance(space, spaces.Dict):
        for key, part in space.spaces.items():
            yield from _parts(part, f"{name}.{key}" if name else str(key))
    elif isinstance(space, spaces.Tuple):
        for place, part in enumerate(space.spaces):
            yield from _parts(part, f"{name}[{place}]")
    else:
        shape = tuple(space.shape or ()) if isinstance(space, spaces.Box) else ()
        yield name, _wordless(shape, is_bytes=str(space.dtype) == "uint8")


def _wordless(shape: tuple[int, ...], *, is_bytes: bool) -> str:
    """Why an array of this shape has no words; empty: it has."""
    count = 1
    for side in shape:
        count *= side
    if len(shape) >= 3 or (is_bytes and len(shape) == 2 and min(shape) >= SMALLEST_PICTURE):
        return f"pixels of shape {shape}"
    return f"{count} numbers, at most {MOST_NUMBERS} can be read" if count > MOST_NUMBERS else ""


def board_text(rendered: str) -> str:
    """A rendered board without colour codes and last action; coloured places are named below it, lines and columns
    counted from 1."""
    lines = [line for line in rendered.split("\n") if not LAST_ACTION.fullmatch(line)]
    while lines and not lines[0].strip():
        lines.pop(0)
    while lines and not lines[-1].strip():
        lines.pop()
    marks: list[str] = []
    for number, line in enumerate(lines, start=1):
        plain = ""
        colours: list[str] = []
        for position, part in enumerate(COLOUR_CODE.split(line)):
            if position % 2:  # codes stand between texts
                colours = coloured(colours, part)
            elif part:
                where = f"{part.strip() or 'empty'}, line {number}, column {len(plain) + 1}"
                marks.extend(f"{colour}: {where}" for colour in colours)
                plain += part
        lines[number - 1] = plain.rstrip()
    return "\n".join([*lines, *marks])


def coloured(colours: list[str], codes: str) -> list[str]:
    """The colours that hold after a code such as "34;1": one more, or none after 0."""
    numbers = [int(code) for code in codes.split(";") if code]
    if not any(numbers):
        return []
    named = (COLOURS[code % 10] for code in numbers if code // 10 in (3, 4, 9, 10) and code % 10 < 8)
    return [*colours, next(named, "marked")]


def value_text(value: object) -> str:
    """An observation without a board, in words and numbers; pixels in it are left out. TypeError: it is None."""
    if value is None:
        raise TypeError("observation: want a value, got None")
    return _words(value)


def _words(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return "\n".join(f"{name}: {_words(part)}" for name, part in value.items() if not _is_wordless(part))
    if isinstance(value, tuple | list):
        return ", ".join(_words(part) for part in value if not _is_wordless(part))
    if hasattr(value, "tolist"):
        plain = value.tolist()
        if getattr(value, "ndim", 0) == 2:
            return "\n".join(_words(row) for row in plain)
        return _words(plain) if isinstance(plain, list) else _words(plain if plain == plain else "nan")
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _is_wordless(part: object) -> bool:
    shape = getattr(part, "shape", None)
    return isinstance(shape, tuple) and bool(_wordless(shape, is_bytes=str(getattr(part, "dtype", "")) == "uint8"))


def rendered_text(rendered: object) -> str:
    """A board as `render` gives it in the mode "ansi": a text, a file of text, or lines. TypeError: it is none."""
    if isinstance(rendered, io.StringIO):
        rendered = rendered.getvalue()
    if isinstance(rendered, list | tuple) and rendered and all(isinstance(line, str) for line in rendered):
        rendered = "\n".join(rendered)
    if not isinstance(rendered, str):
        raise TypeError(f"render: want a text in the mode ansi, got {type(rendered).__name__}")
    return board_text(rendered)
