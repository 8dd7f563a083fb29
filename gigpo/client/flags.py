"""Makes every leaf of the job spec an option of a command: `--gamma 0.9`, grouped by section, with its own help."""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable
from datetime import date
from functools import cache
from typing import Annotated, Literal, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from gigpo.client.completion import values_of
from gigpo.client.document import default_document
from gigpo.client.own_data import DATASET
from services.contracts.job import JobSpec, flags

PREFIX = "flag_"
INSIDE, _INSIDE_PARAMETER = "--inside-mapping", "inside_mapping"
"""The option that carries `MAPPING.KEY=VALUE`; `JobCommand` writes it for `--MAPPING.KEY VALUE`."""
_INSIDE = inspect.Parameter(
    _INSIDE_PARAMETER,
    inspect.Parameter.KEYWORD_ONLY,
    default=None,
    annotation=Annotated[list[str] | None, typer.Option(INSIDE, hidden=True)],
)
_DATASET = inspect.Parameter(
    PREFIX + DATASET,
    inspect.Parameter.KEYWORD_ONLY,
    default=None,
    annotation=Annotated[
        str | None,
        typer.Option(
            f"--{DATASET}",
            metavar="FILE",
            help="Prompts of yours: a file of rows (.jsonl, .json, .csv, .parquet, .arrow), or a folder with "
            "train.jsonl or the like and perhaps test.jsonl; stands for data in environment_kwargs.",
            rich_help_panel="Keys of a job: environment",
        ),
    ],
)


def takes_job_flags(command: Callable[..., None]) -> Callable[..., None]:
    """Give `command` an option for each leaf of the spec; its parameter `values` gets those that were given.

    `values` is a dict of flag name -> text, as typed; `environment_kwargs.size` names a key inside a mapping.
    """
    signature = inspect.signature(command, eval_str=True)
    own = [parameter for parameter in signature.parameters.values() if parameter.name != "values"]
    options = [*(_option(name, path) for name, path in flags().items()), _DATASET, _INSIDE]

    @functools.wraps(command)
    def with_flags(**arguments: object) -> None:
        given, inside = [name for name in arguments if name.startswith(PREFIX)], arguments.pop(_INSIDE_PARAMETER)
        values = {name.removeprefix(PREFIX): arguments.pop(name) for name in given}
        values |= dict(str(one).split("=", 1) for one in inside) if isinstance(inside, list) else {}
        command(**arguments, values={name: value for name, value in values.items() if value is not None})

    parameters = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in [*own, *options]]
    with_flags.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    with_flags.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    del with_flags.__wrapped__
    return with_flags


@cache
def list_flags() -> frozenset[str]:
    """The keys that take several values."""
    return frozenset(name for name, path in flags().items() if _is_list(_field(path).annotation))


@cache
def mapping_flags() -> frozenset[str]:
    """The keys whose value is a mapping with keys of its own."""
    return frozenset(name for name, path in flags().items() if get_origin(_field(path).annotation) is dict)


@cache
def switch_flags() -> frozenset[str]:
    """The keys that are true or false."""
    return frozenset(name for name, path in flags().items() if _field(path).annotation is bool)


def _is_list(annotation: object) -> bool:
    return any(get_origin(kind) is list for kind in (annotation, *get_args(annotation)))


def _option(name: str, path: tuple[str, ...]) -> inspect.Parameter:
    field = _field(path)
    panel = f"Keys of a job: {'.'.join(path[:-1]) or 'general'}"
    option = typer.Option(
        f"--{name}",
        help=_help(field, path),
        metavar=_values(field),
        rich_help_panel=panel,
        autocompletion=values_of(name, _choices(field)),
    )
    annotation = Annotated[str | None, option]
    return inspect.Parameter(PREFIX + name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _field(path: tuple[str, ...]) -> FieldInfo:
    section: type[BaseModel] = JobSpec
    for part in path[:-1]:
        annotation = section.model_fields[part].annotation
        candidates = [annotation, *get_args(annotation)]
        section = next(c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel))
    return section.model_fields[path[-1]]


def key_help(name: str) -> str:
    """A key's description, in one line."""
    return " ".join((_field(flags()[name]).description or "").split())


def _help(field: FieldInfo, path: tuple[str, ...]) -> str:
    """The meaning of the key, and its value without the flag: in the default job, and in a file without the key."""
    text = " ".join((field.description or "").split())
    of_spec = None if field.is_required() else field.get_default(call_default_factory=True)
    runs = _in_default_job(path)
    said = []
    if runs is not None and runs != of_spec:
        said.append(f"the default job has {_written(runs)}")
    if of_spec is not None:
        said.append(f"{'a file without it' if said else 'default'} {_written(of_spec)}")
    return f"{text} ({', '.join(said)})" if said else text


def _in_default_job(path: tuple[str, ...]) -> object:
    value: object = _default_job()
    for part in path:
        value = value.get(part) if isinstance(value, dict) else None
    return value


@cache
def _default_job() -> object:
    return default_document()


def _written(value: object) -> str:
    """The key in a job file."""
    if isinstance(value, float):
        return f"{value:g}"
    return json.dumps(value) if isinstance(value, bool | dict | list) else str(value)


def _choices(field: FieldInfo) -> list[str]:
    kinds = [kind for one in _alternatives(field.annotation) for kind in (one, *get_args(one))]
    if bool in kinds:
        return ["true", "false"]
    return [str(choice) for kind in kinds if get_origin(kind) is Literal for choice in get_args(kind)]


def _values(field: FieldInfo) -> str:
    """`grpo|rloo|gigpo`, `INT`, `JSON`, ..."""
    kinds = [kind for kind in _alternatives(field.annotation) if kind is not type(None)]
    return "|".join(_value(kind) for kind in kinds)


def _alternatives(annotation: object) -> list[object]:
    if get_origin(annotation) in (Literal, dict) or not get_args(annotation):
        return [annotation]
    return list(get_args(annotation))


def _value(kind: object) -> str:
    if get_origin(kind) is Literal:
        return "|".join(str(choice) for choice in get_args(kind))
    names: dict[object, str] = {
        bool: "true|false", int: "INT", float: "NUMBER", str: "TEXT", date: "YYYY-MM-DD",
    }  # fmt: skip
    return names.get(get_args(kind)[0] if get_origin(kind) is Annotated else kind, "JSON")
