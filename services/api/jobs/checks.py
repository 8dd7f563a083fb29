"""Checks at submission that need more than the spec: the environments, the installed engines, the folder of a model."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from services.api.jobs.hub import HubModel
from services.api.policies.config import CONFIG, config_problems, positions_problem, size
from services.api.policies.folder import model_problems, played, playing_problems, read_config
from services.api.security.addresses import model_problem
from services.contracts.algorithm import STEP_ESTIMATORS
from services.contracts.environment import EnvironmentInfo
from services.contracts.job import JobSpec
from services.contracts.plain_errors import meant, shown
from services.contracts.references import no_folder
from services.contracts.rest.catalogue import EnvironmentView
from services.contracts.templates import template_names, unknown_template
from services.presentation.schema_words import values_in_words

Problems = list[tuple[str, str]]
"""(field, sentence) pairs."""

_ID = "environment.environment"
_LARGEST = (1 << 63) - 1
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def environment_of(
    spec: JobSpec, environments: Sequence[EnvironmentView], engines: Sequence[str], trackers: Sequence[str]
) -> tuple[EnvironmentInfo | None, Problems]:
    """The spec's environment and everything that keeps the spec from running here; no problems means it can."""
    problems = _engine_problems(spec, engines) + _tracker_problems(spec, trackers)
    problems += _unstorable(spec.model_dump(exclude_unset=True))
    known = {view.info.id: view for view in environments}
    found: dict[str, EnvironmentInfo] = {}
    for member, part in spec.parts.items():
        info, of_part = _part_of(part, known)
        problems += [problem for problem in placed(spec, member, of_part) if problem not in problems]
        if info is not None:
            found[member] = info
    return (EnvironmentInfo.mixed(found) if len(found) == len(spec.parts) else None), problems


def placed(spec: JobSpec, member: str, problems: Problems) -> Problems:
    """A member's problems with the fields of the job's own spec."""
    section = "environment."
    for at, one in enumerate(spec.environment.mixture):
        if one.member == member:
            mine = tuple(f"{section}{name}" for name in one.changes)
            place = f"{section}mixture.{at}."
            return [
                (place + field.removeprefix(section) if field.startswith(mine) and mine else field, sentence)
                for field, sentence in problems
            ]
    return problems


def _part_of(spec: JobSpec, known: Mapping[str, EnvironmentView]) -> tuple[EnvironmentInfo | None, Problems]:
    """A part's environment, and what keeps it from being played there."""
    view = known.get(spec.environment.environment)
    if view is None:
        names, asked = ", ".join(sorted(known)) or "none", spec.environment.environment
        return None, [(_ID, f"unknown environment {asked!r}, known: {names}{meant(asked, known)}")]
    if view.unavailable_reason:
        return None, [(_ID, f"{view.info.id} cannot be opened here: {view.unavailable_reason}")]
    return view.info, _environment_problems(spec, view.info)


def installed_problems(spec: JobSpec, catalogue: Sequence[Mapping[str, object]]) -> list[str]:
    """Sentences on everything that keeps the spec from running here; the client asks before it starts a stack.

    Args:
        catalogue: `EnvironmentView`s as JSON values.
    """
    views = [EnvironmentView.model_validate(one) for one in catalogue]
    _, problems = environment_of(spec, views, [spec.inference.engine], spec.tracking.trackers)
    return [f"{field}: {sentence}" for field, sentence in problems]


def _environment_problems(spec: JobSpec, info: EnvironmentInfo) -> Problems:
    wanted = spec.environment
    field = "environment.environment_kwargs"
    problems = _kwargs_problems(field, wanted.environment_kwargs, info)
    for at, row in enumerate(wanted.environment_rows if not problems else ()):
        problems += _kwargs_problems(f"environment.environment_rows.{at}", {**wanted.environment_kwargs, **row}, info)
    if spec.model.warmstart and not problems:
        merged = {**wanted.environment_kwargs, **spec.model.warmstart.warmstart_environment_kwargs}
        problems += _kwargs_problems("model.warmstart.warmstart_environment_kwargs", merged, info)
    if wanted.prompt_template not in ("auto", *template_names(info.templates)):
        problems.append(("environment.prompt_template", unknown_template(wanted.prompt_template, info.templates)))
    for name in ("train_split", "eval_split"):
        split = getattr(wanted, name)
        if split not in info.splits:
            problems.append((f"environment.{name}", f"want one of {', '.join(info.splits)}, got {split!r}"))
    estimator = spec.algorithm.advantage_estimator
    if estimator in STEP_ESTIMATORS and not info.gives_anchors:
        message = f"{estimator} needs an environment that gives anchors, {info.id} gives none; want grpo or rloo"
        problems.append(("algorithm.advantage_estimator", message))
    return problems


def _unstorable(value: object, path: str = "") -> Problems:
    """Values that JSON can hold and no database keeps: integers over 64 bits, NUL, and halves of surrogate pairs."""
    if isinstance(value, dict):
        inner = [(f"{path}.{key}" if path else str(key), one) for key, one in value.items()]
        named = [problem for key in value for problem in _unstorable(key, path)]
        return named + [problem for name, one in inner for problem in _unstorable(one, name)]
    if isinstance(value, list):
        return [problem for i, one in enumerate(value) for problem in _unstorable(one, f"{path}.{i}")]
    if isinstance(value, str) and _UNSTORABLE.search(value):
        return [(path, f"want text without NUL and lone surrogates, got {value[:80]!r}")]
    if isinstance(value, int) and not -_LARGEST <= value <= _LARGEST:
        return [(path, f"want an integer of at most {_LARGEST}, got one of {len(str(value))} digits")]
    return []


def _kwargs_problems(field: str, kwargs: Mapping[str, object], info: EnvironmentInfo) -> Problems:
    return list(_against_schema(field, json.dumps(kwargs, sort_keys=True), json.dumps(info.kwargs_schema), info.id))


@lru_cache(maxsize=1_024)  # jobs come in families that differ in a seed; this is the dearest of all checks
def _against_schema(field: str, kwargs_json: str, schema_json: str, environment: str) -> tuple[tuple[str, str], ...]:
    validator = Draft202012Validator(json.loads(schema_json))
    errors = validator.iter_errors(json.loads(kwargs_json))
    schema = json.loads(schema_json)
    return tuple(problem for error in errors for problem in _kwargs_sentences(field, error, environment, schema))


def _kwargs_sentences(field: str, error: ValidationError, environment: str, schema: Mapping[str, object]) -> Problems:
    path = ".".join([field, *(str(part) for part in error.absolute_path)])
    if error.validator == "additionalProperties" and isinstance(error.instance, dict):
        known = error.schema.get("properties", {}) if isinstance(error.schema, dict) else {}
        unknown = [key for key in error.instance if key not in known]
        return [(f"{path}.{key}", _unknown_kwarg(key, known, environment)) for key in unknown]
    if error.validator == "required" and isinstance(error.instance, dict) and isinstance(error.schema, dict):
        missing = [key for key in error.schema.get("required", ()) if key not in error.instance]
        return [(f"{path}.{key}", f"environment {environment} wants it, none is given") for key in missing]
    return [(path, f"environment {environment} wants {_wanted(error, schema)}, got {shown(error.instance)}")]


def _unknown_kwarg(key: str, known: Mapping[str, object], environment: str) -> str:
    names = ", ".join(sorted(known)) or "none"
    return f"unknown key of environment {environment}, known: {names}{meant(key, known)}"


_BOUNDS = {
    "minItems": "at least {} value(s)",
    "maxItems": "at most {} values",
    "minLength": "at least {} character(s)",
    "maxLength": "at most {} characters",
    "multipleOf": "a multiple of {}",
    "uniqueItems": "values that differ",
}
"""JSON schema's keyword -> what it asks for, beside the type."""


def _wanted(error: ValidationError, schema: Mapping[str, object]) -> str:
    """The kind of value that is wanted in the place of the wrong one: `list of integer from 1 to 12`."""
    wanted = error.schema if isinstance(error.schema, dict) else {}
    if error.validator == "pattern" and (description := wanted.get("description")):
        return f"another text ({str(description).rstrip('.')})"
    if bound := _BOUNDS.get(str(error.validator)):
        return bound.format(error.validator_value)
    return values_in_words(wanted, schema)


def _tracker_problems(spec: JobSpec, trackers: Sequence[str]) -> Problems:
    missing = [name for name in spec.tracking.trackers if name not in trackers]
    field = "tracking.trackers"
    return [(field, f"{name} is not installed here; pip install 'gigpo-platform[{name}]'") for name in missing]


def _engine_problems(spec: JobSpec, engines: Sequence[str]) -> Problems:
    if spec.inference.engine in engines:
        return []
    available = ", ".join(engines) or "none"
    return [("inference.engine", f"{spec.inference.engine} is not installed here, available: {available}")]


def folder_problems(spec: JobSpec, data_dir: Path, roots: Sequence[Path] | None) -> Problems:
    """The reasons why a folder of the installation cannot be a job's model; `roots` as `model_problem` wants them."""
    model = str(spec.model.model)
    folder = Path(model)
    if problem := model_problem(model, roots):
        return [("model.model", problem)]
    if folder.resolve().is_relative_to(data_dir.resolve()):  # projects could read each other's files there
        return [("model.model", f"name a job's checkpoint as job:<job id>/<checkpoint>, got {model!r}")]
    if not os.path.isdir(folder):  # Path.is_dir raises for a name that is too long
        return [("model.model", no_folder(model))]
    return [("model.model", sentence) for sentence in model_problems(folder, spec)]


def policy_fit(
    spec: JobSpec, environment: EnvironmentInfo, files: Mapping[str, Path] | None, hub: HubModel | None
) -> tuple[Problems, list[str]]:
    """The reasons why the job's policy cannot be played by it, and warnings.

    Args:
        files: of the checkpoint that the job begins with; None: it begins with none.
        hub: its model on the hub, of which all but the weights is here.
    """
    if spec.model.scratch is not None:
        return [], []
    if hub is None and files is None:
        return playing_problems(Path(str(spec.model.model)), spec, environment)
    config = hub.config if hub is not None else read_config((files or {})[CONFIG])
    found = config_problems(config) if hub is not None else []
    if (short := positions_problem(config, spec)) is not None:
        found.append(short)
    if found:
        return [("model.model", sentence) for sentence in found], []
    vocabulary = size(config, "vocab_size")
    with TemporaryDirectory() as folder:
        _put_together(Path(folder), files or {}, hub.files if hub is not None else {})
        return played(Path(folder), spec, environment, vocabulary and vocabulary[1])


def _put_together(folder: Path, there: Mapping[str, Path], fetched: Mapping[str, bytes]) -> None:
    """A folder of a model without its weights, which may lie on several places."""
    for name, path in there.items():
        if not name.endswith(".safetensors"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).symlink_to(path.resolve())
    for name, content in fetched.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
