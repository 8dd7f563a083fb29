"""Reads a model's folder at submission: what keeps its policy from being trained, served or played.

No weights are read but the headers of their files, and no code of the folder runs.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from pathlib import Path

from services.api.policies.config import CONFIG, config_problems, positions_problem
from services.api.policies.numbers import not_finite
from services.api.policies.safetensors_header import WeightsProblem
from services.api.policies.weights import embedded_tokens, tensors_of, weight_files, weights_problems
from services.contracts.adapter_files import ADAPTER_CONFIG
from services.contracts.environment import EnvironmentInfo
from services.contracts.job import JobSpec
from services.contracts.plain_errors import kind_of

PlayingCheck = Callable[[Path, JobSpec, EnvironmentInfo, int | None], tuple[list[tuple[str, str]], list[str]]]
"""Problems, as (field, sentence), and warnings of a folder's tokenizer and templates; the last argument: the rows of
its embedding."""
CHECKS = "gigpo.model_checks"
"""Entry points of `PlayingCheck`s: the service that plays policies says which it can play."""
ADAPTER_BESIDE = f"{ADAPTER_CONFIG}: want a whole model, got an adapter; merge it into the model and remove this file"
_WANTED = (CONFIG, "tokenizer.json", "tokenizer_config.json")
_SAFETENSORS = "*.safetensors"
_PICKLED = "pickled weights are never read, save them as safetensors"
_OTHER_LIBRARY = "other weights than safetensors are not read, save the model with transformers"
_INSTEAD = (
    (CONFIG, ADAPTER_CONFIG, "it is an adapter, merge it into its base model and save the whole"),
    (CONFIG, "*.gguf", "a GGUF file is not read, save the model with transformers as safetensors"),
    ("tokenizer.json", "tokenizer.model", "a SentencePiece tokenizer alone, save it with transformers as a fast one"),
    *(
        ("tokenizer.json", other, f"{other} is not read, save the tokenizer with transformers as a fast one")
        for other in ("vocab.json", "vocab.txt", "spiece.model", "sentencepiece.bpe.model", "tekken.json")
    ),
    (_SAFETENSORS, "pytorch_model*.bin", _PICKLED),
    (_SAFETENSORS, "pytorch_model.bin.index.json", _PICKLED),
    (_SAFETENSORS, "*.pth", _PICKLED),
    (_SAFETENSORS, "*.gguf", "a GGUF file is not read, save the model with transformers as safetensors"),
    *((_SAFETENSORS, other, _OTHER_LIBRARY) for other in ("tf_model.h5", "flax_model.msgpack", "*.onnx", "*.npz")),
    (CONFIG, "*/config.json", "a folder below it holds one"),
)
"""A file that is missing, files that lie there instead, and what to do about it."""


def model_problems(folder: Path, spec: JobSpec) -> list[str]:
    """The reasons why the folder cannot be the job's model, by its config and its weights."""
    if missing := _missing(folder):
        hints = [f"; {hint}" for lacked, name, hint in _INSTEAD if lacked in missing and any(folder.glob(name))]
        lacks = f"it lacks {', '.join(missing)}{''.join(hints[:1])}"
        return [f"{folder} is not a model in Hugging Face format, {lacks}"]
    if (folder / ADAPTER_CONFIG).exists():
        return [ADAPTER_BESIDE]
    try:
        config = read_config(folder / CONFIG)
        found = config_problems(config)
        if (short := positions_problem(config, spec)) is not None:
            found.append(short)
        return found or weights_problems(tensors_of(folder), config) or not_finite(weight_files(folder))
    except (WeightsProblem, ConfigProblem) as problem:
        return [str(problem)]


def playing_problems(
    folder: Path, spec: JobSpec, environment: EnvironmentInfo
) -> tuple[list[tuple[str, str]], list[str]]:
    """Problems and warnings of the tokenizer and the templates, for a folder without `model_problems`."""
    return played(folder, spec, environment, embedded_tokens(tensors_of(folder)))


def played(
    folder: Path, spec: JobSpec, environment: EnvironmentInfo, embedded: int | None
) -> tuple[list[tuple[str, str]], list[str]]:
    """The same for a folder that may hold no weights, of which `embedded` is the embedding's number of rows."""
    checks: list[PlayingCheck] = [point.load() for point in entry_points(group=CHECKS)]
    found = [check(folder, spec, environment, embedded) for check in checks]
    return [one for problems, _ in found for one in problems], [one for _, warnings in found for one in warnings]


class ConfigProblem(ValueError):
    """A config.json cannot be read, or is no JSON object."""


def read_config(path: Path) -> Mapping[str, object]:
    """A model's config. Raises ConfigProblem."""
    try:
        config = json.loads(path.read_bytes())
    except OSError as error:
        raise ConfigProblem(f"{CONFIG}: want a file that can be read, got {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ConfigProblem(f"{CONFIG}: want a JSON object, got {str(error)[:80]}") from None
    if not isinstance(config, dict):
        raise ConfigProblem(f"{CONFIG}: want a JSON object, got {kind_of(config)}")
    return config


def _missing(folder: Path) -> list[str]:
    missing = [name for name in _WANTED if not os.path.isfile(folder / name)]
    held = (
        any(path.is_file() for path in folder.glob(_SAFETENSORS)) or (folder / "model.safetensors.index.json").is_file()
    )
    return missing if held else [*missing, _SAFETENSORS]
