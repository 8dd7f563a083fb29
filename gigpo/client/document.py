"""A job's document: from a YAML file or the built-in default, changed by flags, checked before it is sent."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points
from importlib.resources import files
from pathlib import Path

import yaml
from pydantic import JsonValue

from gigpo.client.errors import BadInput
from gigpo.client.models import JsonObject
from gigpo.client.own_data import DATASET, PLACE, dataset, text_of, with_found_files
from gigpo.client.yaml_keys import BadYaml, load_yaml
from services.contracts.algorithm import keys_of_estimator
from services.contracts.foreign import foreign_name
from services.contracts.job import SINGLE_TURN, JobSpec, SpecError, flags, parse_spec
from services.contracts.plain_errors import kind_of, meant
from services.contracts.references import hub_name, hub_refusal, no_folder, referenced_checkpoint
from services.contracts.spec_keys import without_short_forms

NO_FLAGS: Mapping[str, str] = {}
_OF_PROMPTS = {DATASET, "reward_funcs"}
IGNORED = "x-"
"""Keys at the top of a job file that begin so are its author's."""


def default_document(values: Mapping[str, str] = NO_FLAGS) -> JsonObject:
    """The job that runs when no file is named: `examples/default.yaml`, or one of prompts where flags name them."""
    prompts = _OF_PROMPTS & values.keys() or values.get("environment") == SINGLE_TURN
    name = "default_prompts.yaml" if prompts else "default.yaml"
    document = yaml.safe_load(files("services.contracts").joinpath(name).read_text())
    assert isinstance(document, dict)
    return _shorter(document, values)


def _shorter(document: JsonObject, values: Mapping[str, str]) -> JsonObject:
    """The default job without those of its keys that do not suit the number of batches that a flag gives."""
    try:
        total = int(values.get("total_batches", ""))
    except ValueError:
        return document
    for name, key in (("training", "warmup_batches"), ("checkpoint", "checkpoint_every")):
        own = section(document, name)
        if isinstance(count := own.get(key), int) and count >= total:
            del own[key]
    return document


def read_document(path: Path | None, values: Mapping[str, str] = NO_FLAGS) -> JsonObject:
    """The file's mapping, or for None the default job that suits these flags.

    Keys at the top that begin with `x-` are a place for YAML anchors and are left out; `${VAR}` is an environment
    variable; `model: PATH` and `environment: ID` become sections; data and reward functions lie beside the file.

    Raises:
        BadInput.
    """
    if path is None:
        return default_document(values)
    try:
        document = load_yaml(text_of(path), os.environ)
    except BadYaml as error:
        raise BadInput(f"{path}: {error}") from error
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: not valid YAML: {_yaml_problem(error)}") from error
    if not isinstance(document, dict):
        raise BadInput(f"{path}: want a mapping of sections such as model and environment, got {kind_of(document)}")
    own = {key: value for key, value in document.items() if not str(key).startswith(IGNORED)}
    return with_found_files(without_short_forms(own), path.parent)


def with_flags(document: Mapping[str, JsonValue], values: Mapping[str, str]) -> JsonObject:
    """The document with each flag's value in its place; values are YAML scalars or JSON.

    `model` takes the place of `scratch` and `warmstart`; an estimator drops the keys that only others have, unless
    they were given as flags too; `dataset` takes the place of other prompts. Files are looked for
    where the command runs.
    """
    changed, paths = copy.deepcopy(dict(document)), flags()
    if "model" in values and isinstance(model := changed.get("model"), dict):
        for source in ("scratch", "warmstart", "model_revision"):
            model.pop(source, None)
    if "advantage_estimator" in values and isinstance(algorithm := changed.get("algorithm"), dict):
        estimator = _scalar("advantage_estimator", values["advantage_estimator"])
        changed["algorithm"] = keys_of_estimator(str(estimator), algorithm)
    for name, value in values.items():
        if name == DATASET:
            _put_dataset(changed, value)
        else:
            mapping, _, key = name.partition(".")
            _put(changed, (*paths[mapping], *([key] if key else [])), _scalar(name, value))
    return with_found_files(changed, Path()) if values else changed


def _put_dataset(document: JsonObject, value: str) -> None:
    kwargs = section(section(document, "environment"), "environment_kwargs")
    others = {name: one for name, one in kwargs.items() if name not in ("rows", "arithmetic")}
    _put(document, PLACE[:-1], {**others, PLACE[-1]: dataset(value)})


def _put(document: JsonObject, path: Sequence[str], value: JsonValue) -> None:
    *sections, leaf = path
    for part in sections:
        inner = document.get(part)
        if not isinstance(inner, dict):
            inner = document[part] = {}
        document = inner
    document[leaf] = value


def section(document: Mapping[str, JsonValue], name: str) -> JsonObject:
    """A section of the document, empty where it has none. Raises BadInput for one that is no mapping."""
    found = document.get(name) or {}
    if not isinstance(found, dict):
        raise BadInput(f"{name}: want a mapping, got {found!r}")
    return found


def overrides(changes: Sequence[str]) -> JsonObject:
    """`KEY=VALUE`s as sections that differ; a key is a flag's name or a dotted path. Raises BadInput."""
    paths, changed = flags(), JsonObject()
    for change in changes:
        key, equals, value = change.partition("=")
        if not equals:
            raise BadInput(f"--set: want KEY=VALUE such as learning_rate=3e-4, got {change!r}")
        path = paths.get(key) or next((place for place in paths.values() if ".".join(place) == key), None)
        if path is None:
            row = foreign_name(key)
            hint = f"; {row.sentence}" if row else meant(key.rpartition(".")[2], paths)
            raise BadInput(f"--set {key}: unknown key{hint or '; `gigpo train --help` lists the known ones'}")
        _put(changed, path, _scalar(f"set {key}", value))
    return changed


def checked(document: Mapping[str, JsonValue]) -> JobSpec:
    """The spec in the document. Raises BadInput with one sentence that names each field."""
    try:
        return parse_spec(dict(document))
    except SpecError as error:
        raise BadInput(str(error)) from error


def submission(spec: JobSpec) -> JsonObject:
    """The document to send: only keys that were set, so that the API's defaults apply; a model's path made absolute.

    Raises BadInput for a model that begins as a reference to a job's checkpoint and is none.
    """
    document = spec.model_dump(mode="json", exclude_unset=True)
    if (folder := _model_folder(spec)) is not None:
        document["model"]["model"] = str(folder.absolute())
    return document


def require_model_folder(spec: JobSpec, *, hub_models: bool = False) -> None:
    """Refuse a model path that is no folder before a stack on this machine is started.

    `hub_models`: the stack may fetch models of the hub.
    """
    if (folder := _model_folder(spec)) is not None and not folder.is_dir():
        raise BadInput(f"model.model: {no_folder(str(folder) if folder.is_file() else str(spec.model.model))}")
    on_hub = hub_name(spec.model.model) if folder is None and spec.model.model is not None else None
    if on_hub is not None and not hub_models:
        raise BadInput(f"model.model: {hub_refusal(on_hub)}")


def hub_models_allowed() -> bool:
    """Whether a stack that is started here lets jobs fetch models of the hub."""
    return os.environ.get("API_HUB_MODELS", "").lower() in ("1", "true", "yes", "on", "t", "y")


def _model_folder(spec: JobSpec) -> Path | None:
    """The folder that `model.model` names; None: a model from scratch, another job's checkpoint, or one on the hub.

    What looks like a name on the hub is a folder where there is one.
    """
    if spec.model.model is None:
        return None
    try:
        reference = referenced_checkpoint(spec.model.model)
    except ValueError as error:
        raise BadInput(f"model.model: {error}") from error
    if reference is not None:
        return None
    folder = Path(spec.model.model).expanduser()
    return None if hub_name(spec.model.model) is not None and not folder.exists() else folder


def require_environment(spec: JobSpec) -> None:
    """Refuse what the environments of a stack on this machine would refuse, before anything is started. Raises
    BadInput.

    Who is installed answers: `gigpo.catalogue` lists environments, `gigpo.checks` compares a spec with such a list.
    """
    checks = entry_points(group="gigpo.checks")
    if checks and (found := installed_environments()):
        problems = [sentence for point in checks for sentence in point.load()(spec, found)]
        if problems:
            raise BadInput("; ".join(problems))


def installed_environments() -> list[JsonObject]:
    """The environments that can be opened on this machine; empty where no environments are installed."""
    return [view for point in entry_points(group="gigpo.catalogue") for view in point.load()()]


def _scalar(name: str, value: str) -> JsonValue:
    if name in {"name", "model"}:
        return value
    try:
        given: JsonValue = load_yaml(value)
        return given
    except BadYaml as error:
        raise BadInput(f"--{name}: {error}") from error
    except yaml.YAMLError as error:
        raise BadInput(f"--{name}: want a value in YAML or JSON, got {value!r}: {_yaml_problem(error)}") from error


def _yaml_problem(error: Exception) -> str:
    """The place where the text stops to be YAML, and the reason."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark, why = error.problem_mark, error.problem or "the text there cannot be parsed"
        tab = "; indent with spaces, not with tabs" if "'\\t'" in why else ""
        return f"line {mark.line + 1}, column {mark.column + 1}: {why}{tab}"
    if isinstance(error, UnicodeDecodeError):
        return f"byte {error.start} is not UTF-8 text"
    return " ".join(str(error).split())
