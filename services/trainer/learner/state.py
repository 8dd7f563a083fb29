"""A learner's state on disk without pickles: tensors as safetensors, numbers as JSON, each file with its hash.

A rank alone writes a file for each kind of tensor. Of several, each writes its pieces into a folder of that name, and
the first one what has none, such as counts. Any number of ranks reads both.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.optim import AdamW

from services.contracts.versions import ContractError, Upgrade, check_version, upgraded
from services.trainer.learner.errors import StateError
from services.trainer.learner.files import file_hash, file_hashes, write_text
from services.trainer.learner.pieces import read_pieces, shapes_in, write_pieces
from services.trainer.learner.ranks import Ranks, gathered, piece
from services.trainer.learner.tensor_files import write_tensors

INDEX = "learner.json"
"""Written last: it names the other files and their hashes."""


@dataclass(frozen=True)
class State:
    """The state that is saved and loaded."""

    tensors: Mapping[str, Mapping[str, Tensor]]
    """Kind -> name -> tensor; of `weights`, `reference`, `optimizer`, `generator`."""
    numbers: Mapping[str, int]
    pieces: Mapping[str, Path] = field(default_factory=dict)
    """Kind -> folder of what several ranks wrote; empty in a state that is to be written."""

    def has(self, kind: str) -> bool:
        """Whether there are tensors of the kind."""
        return kind in self.tensors or kind in self.pieces


UPGRADES: tuple[Upgrade[State], ...] = ()
"""Upgrades from each version to the next; see `services.contracts.versions`."""


def _newest() -> int:
    return 1 + len(UPGRADES)


def write_state(state: State, folder: Path, ranks: Ranks) -> dict[str, str]:
    """Write every file, synced; all ranks call it.

    Returns:
        Name -> hex sha256; nothing where this rank does not lead.

    Raises:
        OSError: on the leading rank; PiecesNotWritten on all.
    """
    split = {kind: _split(tensors) for kind, tensors in state.tensors.items()}
    for kind, parts in split.items():  # together, before the first rank is alone with a disk that refuses
        if parts:
            write_pieces(folder / kind, parts)
    if not ranks.leads:
        return {}
    folder.mkdir(parents=True, exist_ok=True)
    hashes: dict[str, str] = {}
    for kind, tensors in state.tensors.items():
        hashes |= {f"{kind}/{name}": digest for name, digest in file_hashes(folder / kind).items()}
        rest = {name: tensor for name, tensor in tensors.items() if name not in split[kind]}
        if rest or not split[kind]:
            hashes[f"{kind}.safetensors"] = write_tensors(folder / f"{kind}.safetensors", gathered(rest, keep=True))
    index = {"schema": _newest(), "files": hashes, "numbers": dict(state.numbers)}
    return {**hashes, INDEX: write_text(folder / INDEX, json.dumps(index, indent=2, sort_keys=True) + "\n")}


def _split(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those that ranks hold pieces of."""
    return {name: tensor for name, tensor in tensors.items() if isinstance(tensor, DTensor)}


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
        files = [Path(name) for name in index["files"]]
        tensors = {name.stem: load_file(folder / name) for name in files if name.parent == Path()}
        pieces = {name.parent.name: folder / name.parent for name in files if name.parent != Path()}
        state = State(tensors, {name: int(value) for name, value in index["numbers"].items()}, pieces)
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


def restore_optimizer(optimizer: AdamW, weights: Mapping[str, Tensor], state: State) -> None:
    """Undo `optimizer_tensors`.

    Raises:
        StateError: a moment of an unknown weight, or of another shape.
    """
    optimizer.state.clear()
    whole = state.tensors.get("optimizer", {})
    split = shapes_in(state.pieces["optimizer"]) if "optimizer" in state.pieces else {}
    shapes = {**split, **{key: tensor.shape for key, tensor in whole.items()}}
    for key, shape in shapes.items():
        name, _, moment = key.rpartition("/")
        weight = weights.get(name)
        if weight is None or (moment != "step" and shape != weight.shape):
            raise StateError(f"optimizer: {key} {list(shape)} does not fit this policy")
        if key in split:
            value = torch.zeros_like(weight, requires_grad=False)
        else:
            value = whole[key].clone() if moment == "step" else torch.zeros_like(weight, requires_grad=False)
            value.copy_(whole[key] if moment == "step" else piece(whole[key], weight))
        optimizer.state.setdefault(weight, {})[moment] = value
    if split:
        found = optimizer_tensors(optimizer, weights)
        read_pieces(state.pieces["optimizer"], {key: found[key] for key in split})


def restore_weights(weights: Mapping[str, Tensor], state: State, kind: str = "weights") -> None:
    """Copy saved tensors into weights of the same names and shapes.

    Raises:
        StateError: a name or a shape differs; then nothing is copied.
    """
    whole = state.tensors.get(kind, {})
    split = shapes_in(state.pieces[kind]) if kind in state.pieces else {}
    shapes = {**split, **{name: tensor.shape for name, tensor in whole.items()}}
    wrong = sorted(weights.keys() ^ shapes.keys())
    wrong += [name for name in weights.keys() & shapes.keys() if weights[name].shape != shapes[name]]
    if wrong:
        raise StateError(f"weights: {wrong[0]} and {len(wrong) - 1} more don't fit this policy")
    with torch.no_grad():
        for name, tensor in whole.items():
            weights[name].copy_(piece(tensor, weights[name]))
    if split:
        read_pieces(state.pieces[kind], {name: weights[name] for name in split})
