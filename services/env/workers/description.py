"""Reads and checks every attribute of an environment class, because authors' classes may hold anything."""

import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import cached_property
from importlib.util import find_spec
from typing import Any, TypeVar

from gigpo.env.environment import Capabilities, CostClass, Environment, EnvironmentKwargs
from services.env.workers.prompt_templates import brought_templates
from services.env.workers.tools import tools_json
from services.env.workers.wanted import ContractError, came, flag, named, text, texts, whole
from services.env.workers.wire import EnvironmentEntry, packed

DISTRIBUTION = "gigpo-platform"
NOT_INSTALLED = "not installed: "
"""How the reason begins where the environment itself is sound and something it needs is missing."""
MAX_ENTRY_BYTES = 8 << 20
"""Most bytes of one environment's entry; all of them travel in one message, of at most 64 MiB."""
MAX_REASON = 500
"""Characters of a reason: a sentence in a table."""

METHODS: Mapping[str, tuple[str, ...]] = {
    "__init__": ("kwargs",),
    "reset": ("seed", "split"),
    "step": ("action",),
    "answer": ("action", "response_tokens"),
    "consult": ("action", "response_tokens"),
    "state": (),
    "warnings": (),
    "close": (),
}
"""The methods that are called, and with what."""
NO_PLAIN_FUNCTION = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)

T = TypeVar("T")


def described(environment_id: str, found: type[Environment]) -> EnvironmentEntry:
    """Its line of the listing; ContractError where an attribute is not what it must be."""
    _check_methods(found)
    able, kwargs = _capabilities(found), _kwargs_class(found)
    missing = _missing(found)
    entry = EnvironmentEntry(
        id=environment_id,
        description=" ".join(text("__doc__", _attribute(found, "__doc__") or "").split()),
        kwargs_schema_json=_schema(kwargs),
        deterministic=able.deterministic,
        gives_anchors=able.gives_anchors,
        thread_safe=able.thread_safe,
        cost_class=int(able.cost_class),
        overlaps=able.overlaps,
        default_max_turns=_default_turns(kwargs),
        splits=_splits(found),
        prompt_template=text("prompt_template", _attribute(found, "prompt_template")),
        vocabulary=() if missing else _vocabulary(found),  # it may be made from what is missing
        unavailable_reason=missing,
        max_sessions=whole("max_sessions", _attribute(found, "max_sessions"), least=0),
        example_actions=_texts(found, "example_actions"),
        example_kwargs_json=_examples(found),
        templates=_asked("templates", "files of templates", lambda: brought_templates(found)),
        tools_json=_tools(found),
    )
    if (size := len(packed(entry))) > MAX_ENTRY_BYTES:
        raise ContractError(f"vocabulary() and the rest: want at most {MAX_ENTRY_BYTES} bytes in all, got {size}")
    return entry


def unavailable(environment_id: str, reason: str) -> EnvironmentEntry:
    """The line of an environment of which nothing is known but why it cannot be opened."""
    sentence = " ".join(reason.split())[:MAX_REASON]
    return EnvironmentEntry(environment_id, "", "{}", False, False, False, 0, 0, (), "", (), sentence)


def _asked(what: str, wanted: str, ask: Callable[[], T]) -> T:
    """The answer of the author's code; ContractError where it raises anything."""
    try:
        return ask()
    except ContractError:
        raise
    except BaseException as error:
        raise ContractError(f"{what}: want {wanted}, but it raised {named(error)}") from error


def _attribute(found: type[Environment], name: str) -> Any:
    return _asked(name, "an attribute of the class", lambda: getattr(found, name))


def _texts(found: type[Environment], name: str) -> tuple[str, ...]:
    return _asked(name, "a list of texts", lambda: texts(name, _attribute(found, name)))


def _vocabulary(found: type[Environment]) -> tuple[str, ...]:
    return _asked("vocabulary()", "a list of texts", lambda: texts("vocabulary()", found.vocabulary()))


def _check_methods(found: type[Environment]) -> None:
    """ContractError: it lacks a method or cannot be called as it must, so that no session of it could be made."""
    for name, arguments in METHODS.items():
        method = _attribute(found, name)
        if not callable(method):
            raise ContractError(f"{name}: want a method, got {came(method)}")
        call = f"{name}({', '.join(arguments)})"
        if any(is_one(method) for is_one in NO_PLAIN_FUNCTION):
            raise ContractError(
                f"{name}: want a method that returns when it is called, got an async one or a generator"
            )
        if not _takes(method, isinstance(inspect.getattr_static(found, name), staticmethod), arguments):
            raise ContractError(f"{name}: want a method that can be called as {call}")
    if lacking := sorted(_attribute(found, "__abstractmethods__")):
        raise ContractError(f"{lacking[0]}: want a method, but the class does not define it")


def _takes(method: Callable[..., object], static: bool, arguments: tuple[str, ...]) -> bool:
    """Whether a class's method can be called with these arguments, by their places."""
    bound = static or inspect.ismethod(method)
    try:
        inspect.signature(method).bind(*arguments) if bound else inspect.signature(method).bind(None, *arguments)
    except TypeError:
        return False
    except ValueError:  # written in C, it does not say
        return True
    return True


def _capabilities(found: type[Environment]) -> Capabilities:
    able = _attribute(found, "capabilities")
    if not isinstance(able, Capabilities):
        raise ContractError(f"capabilities: want Capabilities(...), got {came(able)}")
    cost = able.cost_class
    if isinstance(cost, bool) or cost not in tuple(CostClass):
        raise ContractError(f"capabilities.cost_class: want CostClass.LIGHT, MODERATE or HEAVY, got {came(cost)}")
    names = [field.name for field in fields(Capabilities) if field.name != "cost_class"]
    flags = {name: flag(f"capabilities.{name}", getattr(able, name)) for name in names}
    if flags["overlaps"] and not flags["thread_safe"]:
        raise ContractError("capabilities.overlaps: want thread_safe with it, since its sessions have a thread each")
    return Capabilities(**flags, cost_class=CostClass(cost))


def _kwargs_class(found: type[Environment]) -> type[EnvironmentKwargs]:
    kwargs = _attribute(found, "Kwargs")
    if not (isinstance(kwargs, type) and issubclass(kwargs, EnvironmentKwargs)):
        raise ContractError(f"Kwargs: want a class derived from EnvironmentKwargs, got {came(kwargs)}")
    return kwargs


def _schema(kwargs: type[EnvironmentKwargs]) -> str:
    schema = _asked("Kwargs", "fields that have a JSON Schema", kwargs.model_json_schema)
    return _as_json("Kwargs", schema)


def _default_turns(kwargs: type[EnvironmentKwargs]) -> int:
    name = "Kwargs.max_turns"
    field = kwargs.model_fields["max_turns"]
    if field.is_required():
        raise ContractError(f"{name}: want a default, got none")
    default = _asked(name, "a default", lambda: field.get_default(call_default_factory=True, validated_data={}))
    return whole(name, default, least=1)


def _splits(found: type[Environment]) -> tuple[str, ...]:
    splits = _texts(found, "splits")
    if not splits or "" in splits or len(set(splits)) < len(splits):
        raise ContractError(f"splits: want one or more different names, got {came(splits)}")
    return splits


def _examples(found: type[Environment]) -> str:
    examples = _attribute(found, "examples")
    if not isinstance(examples, tuple | list):
        raise ContractError(f"examples: want a list of kwargs, got {came(examples)}")
    for place, example in enumerate(examples):
        if not (isinstance(example, Mapping) and all(isinstance(key, str) for key in example)):
            raise ContractError(f"examples[{place}]: want kwargs by their names, got {came(example)}")
    return _as_json("examples", [dict(example) for example in examples])


def _tools(found: type[Environment]) -> str:
    """Those of the class; an object that decides for itself has a property there."""
    tools = _attribute(found, "tools")
    return "" if isinstance(tools, property | cached_property) else tools_json(tools)


def _as_json(name: str, value: object) -> str:
    """Write it as JSON that every reader takes: its numbers are finite, its texts Unicode. ContractError: it cannot
    be."""
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
        return json.dumps(value, sort_keys=name == "Kwargs")
    except (TypeError, ValueError, RecursionError) as error:
        raise ContractError(f"{name}: want values of JSON, but {named(error)}") from error


def _missing(found: type[Environment]) -> str:
    """A requirement of an environment that is missing here, and how to get it; empty: nothing is missing."""
    extra = text("extra", _attribute(found, "extra"))
    wanted = _texts(found, "requires")
    for place, module in enumerate(wanted):
        if not all(part.isidentifier() for part in module.split(".")):
            raise ContractError(f"requires[{place}]: want the name of a module, as it is imported, got {came(module)}")
    if lacking := [module for module in wanted if not _is_installed(module)]:
        return NOT_INSTALLED + (f"pip install '{DISTRIBUTION}[{extra}]'" if extra else ", ".join(lacking))
    name = "unavailable_reason()"
    why = _asked(name, "a text", lambda: text(name, found.unavailable_reason()))
    return why and NOT_INSTALLED + " ".join(why.split())[:MAX_REASON]


def _is_installed(module: str) -> bool:
    """Whether a module could be imported; of a dotted name the packages that it lies in are."""
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False
    except BaseException as error:
        raise ContractError(f"requires: want names of modules, but looking for {module!r} raised {named(error)}") from (
            error
        )
