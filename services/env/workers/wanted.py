"""Checks values of authors' code: each function returns the value in the wanted type, or names the wrong field."""

import math
import operator
import traceback
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from reprlib import Repr
from typing import Any

MAX_TEXTS = 1_000_000
"""A list of more is taken for one that never ends."""
LARGEST_REWARD = 1e12
"""Gradients are as large as rewards, and the square of 1e20 is infinite in float32."""
MAX_MESSAGE = 2000
"""Characters of an exception's message that are passed on."""
_PLATFORM = (f"{Path(__file__).parent}/", f"{Path(__file__).parents[3]}/gigpo/env/")
"""Lines of our own files say nothing to an environment's author."""

_short = Repr()
_short.maxstring = _short.maxother = 60


class ContractError(Exception):
    """An environment hands over what the contract forbids; the message names the field, what came, what is wanted."""


def text(name: str, value: object) -> str:
    """A text that can be sent, of exactly the type str; ContractError names `name`."""
    if not isinstance(value, str):
        raise ContractError(f"{name}: want a text, got {came(value)}")
    exact = str.__str__(value)  # subclasses too, such as numpy's
    try:
        exact.encode()
    except UnicodeEncodeError as error:
        place = f"a lone surrogate ({exact[error.start]!a}) at character {error.start}"
        raise ContractError(f"{name}: want a text of Unicode characters, got one with {place}") from error
    return exact


def texts(name: str, value: object) -> tuple[str, ...]:
    """A list of texts, in its order; ContractError names the first that is none."""
    if isinstance(value, str | bytes | bytearray | Mapping) or not isinstance(value, Iterable):
        raise ContractError(f"{name}: want a list of texts, got {came(value)}")
    found = tuple(islice(value, MAX_TEXTS + 1))
    if len(found) > MAX_TEXTS:
        raise ContractError(f"{name}: want at most {MAX_TEXTS:,} texts, got more")
    return tuple(text(f"{name}[{place}]", one) for place, one in enumerate(found))


def number(name: str, value: Any) -> float:
    """A finite number. NumPy's and PyTorch's scalars are numbers, texts are none."""
    if type(value) is float and math.isfinite(value):
        return value
    try:
        found = math.nan if isinstance(value, str | bytes | bytearray) else float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):  # RuntimeError: a tensor of several
        found = math.nan
    if not math.isfinite(found):
        raise ContractError(f"{name}: want a finite number, got {came(value)}")
    return found


def reward(name: str, value: object) -> float:
    """A number that can be trained on: no larger than LARGEST_REWARD."""
    found = number(name, value)
    if abs(found) > LARGEST_REWARD:
        raise ContractError(f"{name}: want a number from {-LARGEST_REWARD:g} to {LARGEST_REWARD:g}, got {came(value)}")
    return found


def rewards(name: str, value: object) -> tuple[float, ...]:
    """A list of rewards; NaN stands for None: that function abstains."""
    if type(value) is tuple and not value:
        return ()
    if isinstance(value, str | bytes | bytearray | Mapping) or not isinstance(value, Iterable):
        raise ContractError(f"{name}: want a list of numbers, got {came(value)}")
    return tuple(math.nan if one is None else reward(f"{name}[{place}]", one) for place, one in enumerate(value))


def flag(name: str, value: object) -> bool:
    """True or false; what equals one of them, such as NumPy's bool, is taken for it."""
    if value is True or value is False:
        return bool(value)
    try:
        for wanted in (False, True):
            if bool(value == wanted):
                return wanted
    except (TypeError, ValueError, RuntimeError):  # an array of several
        pass
    raise ContractError(f"{name}: want true or false, got {came(value)}")


def whole(name: str, value: Any, *, least: int, most: int = 2**31 - 1) -> int:
    """A whole number within bounds; a bool is none."""
    try:
        found = least - 1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        found = least - 1
    if not least <= found <= most:
        raise ContractError(f"{name}: want a whole number from {least} to {most}, got {came(value)}")
    return found


def came(value: object) -> str:
    """A value in few words: its type, and how it is written."""
    if value is None:
        return "None"
    try:
        return f"{type(value).__name__} {_short.repr(value)}".encode("ascii", "backslashreplace").decode()
    except BaseException:  # noqa: BLE001 - it is somebody else's __repr__
        return "a value that cannot be shown"


def said(error: BaseException) -> str:
    """The message of an exception, fit to be sent: `str` of it may be long, no Unicode, or raise."""
    try:
        message = str(error)
    except BaseException:  # noqa: BLE001 - it is somebody else's __str__
        message = "its message cannot be shown"
    return message[:MAX_MESSAGE].encode("utf-8", "backslashreplace").decode()


def named(error: BaseException) -> str:
    """An exception by its name, with its message where it has one."""
    return f"{type(error).__name__}: {said(error)}".removesuffix(": ")[:MAX_MESSAGE]


def placed(error: BaseException) -> str:
    """An exception by its name and message, with the line of the environment's own file that it came from."""
    try:
        return _placed(error)
    except Exception:  # noqa: BLE001 - the memory may be used up, or the traceback be somebody else's
        return named(error)


def _placed(error: BaseException) -> str:
    lines = [(frame.f_code, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    foreign = [(code, line) for code, line in lines if not code.co_filename.startswith(_PLATFORM)] or lines
    own = [(code, line) for code, line in foreign if code.co_filename == foreign[0][0].co_filename]
    if not own:
        return named(error)
    code, line = own[-1]
    place = f" ({Path(code.co_filename).name}, line {line}, in {code.co_name})"
    return named(error)[: MAX_MESSAGE - len(place)] + place
