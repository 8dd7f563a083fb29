"""Reward functions in a file of the user's, `file:<hash>/my_reward.py:score`: loaded from the platform's own copy.

What is wrong with one is a sentence when the first session opens, which a submission does.
"""

import ast
import hashlib
import math
import signal
import traceback
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from gigpo.env.environment import KwargsError
from services.contracts.rewards import Rewards
from services.contracts.user_files import content_hash, referenced_file, split_function
from services.env.environments.prompts.completion import Completion, RewardFunction
from services.env.environments.prompts.limits import limited
from services.env.environments.prompts.shelf import Question

TRIAL_CPU_S = 1.0
"""CPU time of the call that tries a function: it takes microseconds, and a submission waits for it."""
_SHOWN = 200
"""Characters of an exception that a sentence shows."""
_tried: set[RewardFunction] = set()


class _TooLong(BaseException):  # not an Exception: the function's own handlers must not take it
    pass


def file_function(name: str, files_root: str | None) -> RewardFunction:
    """The function that the reference names; KwargsError says what is wrong with it."""
    file, function = split_function(name) or ("", "")
    reference = referenced_file(file)
    if reference is None or files_root is None:
        raise KwargsError(f"reward_funcs: {name}: this service has no file of this name; want the name of a function")
    return _function(Path(files_root) / reference[0] / reference[1], reference[0], function)


def try_files(rewards: Rewards, functions: Sequence[RewardFunction], question: Question) -> None:
    """Call each function of a file once, with an empty reply; KwargsError where that raises or is no number."""
    for name, function in zip(rewards.reward_funcs, functions, strict=True):
        if split_function(name) is None or function in _tried:
            continue
        called = _called(name)
        completion = Completion("", 1, question.text, question.solution, question.row)
        try:
            with limited(signal.SIGVTALRM, TRIAL_CPU_S, _TooLong):  # waiting costs nothing
                value: Any = function(completion)
        except _TooLong:
            raise KwargsError(f"reward_funcs: {called} computes for over {TRIAL_CPU_S:g} s on an empty reply") from None
        except Exception as error:
            why = f"{_said(error)}{_line(error, called)}"
            raise KwargsError(f"reward_funcs: {called} fails for an empty reply: {why}") from error
        if value is not None and (isinstance(value, str) or not _is_finite(value)):
            raise KwargsError(
                f"reward_funcs: {called} returns {value!r:.{_SHOWN}} for an empty reply, want a finite number or None"
            )
        if value is None and _returns_nothing(function):
            raise KwargsError(f"reward_funcs: {called} returns nothing, want a number, or None where it abstains")
        _tried.add(function)


def _returns_nothing(function: RewardFunction) -> bool:
    """Whether it was forgotten to return a value; a function that abstains has one to return now and then."""
    code = getattr(function, "__code__", None)
    path = getattr(function, "__globals__", {}).get("__file__")
    if code is None or path is None:
        return False
    tree = ast.parse(Path(path).read_bytes())
    own = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == code.co_name]
    values = [node.value for one in own for node in ast.walk(one) if isinstance(node, ast.Return)]
    said = [value for value in values if value is not None and not _is_none(value)]
    return bool(own) and not said


def _is_none(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and value.value is None


@cache
def _function(path: Path, sha: str, function: str) -> RewardFunction:
    module = _module(path, sha)
    found = getattr(module, function, None)
    if not callable(found):
        own = {name: one for name, one in vars(module).items() if callable(one) and not name.startswith("_")}
        known = sorted(name for name, one in own.items() if getattr(one, "__module__", "") == module.__name__)
        raise KwargsError(f"reward_funcs: {path.name} has no function {function}; it has {', '.join(known) or 'none'}")
    made: RewardFunction = found
    return made


@cache
def _module(path: Path, sha: str) -> ModuleType:
    try:
        source = path.read_bytes()
    except OSError as error:
        raise KwargsError(f"reward_funcs: {path.name} cannot be read: {error.strerror}") from error
    if content_hash({path.name: hashlib.sha256(source).hexdigest()}) != sha:
        raise KwargsError(f"reward_funcs: {path.name} is not the file that the job was submitted with")
    module = ModuleType(f"reward_{sha}")
    module.__file__ = str(path)
    try:
        exec(compile(source, path.name, "exec"), module.__dict__)
    except SyntaxError as error:
        raise KwargsError(f"reward_funcs: {path.name}, line {error.lineno}: {error.msg}") from error
    except BaseException as error:  # SystemExit too: scripts are imported
        raise KwargsError(
            f"reward_funcs: {path.name} cannot be imported: {_said(error)}{_line(error, path.name)}"
        ) from error
    return module


def _called(name: str) -> str:
    """`my_reward.py:score`."""
    return name.rpartition("/")[2]


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:_SHOWN]


def _line(error: BaseException, name: str) -> str:
    """The line of the user's file, such as " (line 3)"."""
    file = name.partition(":")[0]
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return f" (line {lines[-1]})" if lines else ""


def _is_finite(value: Any) -> bool:
    try:
        return math.isfinite(float(value))
    except (TypeError, ValueError, OverflowError):
        return False
