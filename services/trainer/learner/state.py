"""A learner's state on disk without pickles: tensors as safetensors, numbers as JSON, each file with its hash."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.optim import AdamW

from services.contracts.versions import ContractError, Upgrade, check_version, upgraded
from services.trainer.learner.errors import StateError
from services.trainer.learner.files import file_hash, write_text
from services.trainer.learner.ranks import piece
from services.trainer.learner.tensor_files import write_tensors

INDEX = "learner.json"
"""Written last: it names the other files and their hashes."""


@dataclass(frozen=True)
class State:
    """The state that is saved and loaded."""

    tensors: Mapping[str, Mapping[str, Tensor]]
    """File stem -> name -> tensor; of `weights`, `reference`, `optimizer`, `generator`."""
    numbers: Mapping[str, int]


UPGRADES: tuple[Upgrade[State], ...] = ()
"""From each version to the next; see `services.contracts.versions`."""


def _newest() -> int:
    return 1 + len(UPGRADES)


def write_state(state: State, folder: Path) -> dict[str, str]:
    """Write every file, synced; return name -> hex sha256."""
    folder.mkdir(parents=True, exist_ok=True)
    hashes: dict[str, str] = {}
    for stem, tensors in state.tensors.items():
        hashes[f"{stem}.safetensors"] = write_tensors(folder / f"{stem}.safetensors", tensors)
    index = {"schema": _newest(), "files": hashes, "numbers": dict(state.numbers)}
    return {**hashes, INDEX: write_text(folder / INDEX, json.dumps(index, indent=2, sort_keys=True) + "\n")}


def read_state(folder: Path) -> State:
    """The state that `write_state` wrote.

    Raises:
        StateError: a file is missing, unreadable, of a newer version, or not the one that was written.
    """
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        version = int(index["schema"])
        check_version(INDEX, version, _newest())
        for name, digest in index["files"].items():
            if file_hash(folder / name) != digest:
                raise StateError(f"{folder}: {name} is not the file that was saved")
        tensors = {Path(name).stem: load_file(folder / name) for name in index["files"]}
        state = State(tensors, {name: int(value) for name, value in index["numbers"].items()})
        return upgraded(state, version, UPGRADES)
    except ContractError as error:
        raise StateError(f"{folder}: {error}") from error
    except (OSError, KeyError, TypeError, ValueError, AttributeError, SafetensorError) as error:
        raise StateError(f"{folder}: no saved learner: {error!r}") from error


def optimizer_tensors(optimizer: AdamW, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`<weight>/<moment>` -> tensor, for every weight that was stepped."""
    return {
        f"{name}/{moment}": value
        for name, weight in weights.items()
        for moment, value in optimizer.state.get(weight, {}).items()
    }


def restore_optimizer(optimizer: AdamW, weights: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    """Undo `optimizer_tensors`.

    Raises:
        StateError: a moment of an unknown weight, or of another shape.
    """
    optimizer.state.clear()
    for key, value in tensors.items():
        name, _, moment = key.rpartition("/")
        weight = weights.get(name)
        if weight is None or (moment != "step" and value.shape != weight.shape):
            raise StateError(f"optimizer: {key} {list(value.shape)} does not fit this policy")
        optimizer.state.setdefault(weight, {})[moment] = (
            value.to(weight.device) if moment == "step" else piece(value, weight)
        )


def restore_weights(weights: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    """Copy saved tensors into weights of the same names and shapes.

    Raises:
        StateError: a name or a shape differs; then nothing is copied.
    """
    wrong = sorted(weights.keys() ^ tensors.keys())
    wrong += [name for name in weights.keys() & tensors.keys() if weights[name].shape != tensors[name].shape]
    if wrong:
        raise StateError(f"weights: {wrong[0]} and {len(wrong) - 1} more don't fit this policy")
    with torch.no_grad():
        for name, tensor in tensors.items():
            weights[name].copy_(piece(tensor, weights[name]))
