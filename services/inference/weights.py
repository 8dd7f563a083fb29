"""A policy version's files, verified before an engine sees them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from services.contracts.policy import PolicyManifest
from services.inference.engine import UpdateRejected

WEIGHT_FILES = (".safetensors", ".safetensors.index.json", ".bin", ".bin.index.json", ".pt", ".pth", ".gguf")
"""How names of files with weights end, which are the base's own."""
HEADER_LIMIT = 100_000_000
"""Longest header that the safetensors format allows, bytes."""


Shapes = dict[str, tuple[int, ...]]
"""Tensor name -> shape."""


def verify(manifest: PolicyManifest, data_dir: Path, served: Shapes | None = None) -> Shapes:
    """Read every file of the version and compare it with its hash. Blocking; call it off the event loop.

    The base's own files are no measure: they may name tensors otherwise, hold tied ones twice, or hold more. Whether
    a version is whole is told by the engine that starts with it; the versions after it must hold the same tensors.

    Args:
        served: tensors of the version that the engine started with; None: it starts with this one.

    Returns:
        The version's tensors.

    Raises:
        UpdateRejected: a file is missing, differs, lies outside `data_dir`, or its tensors are not `served`. An engine
            that loaded them would serve a mixture of old and new weights without an error.
    """
    folder = _confined(manifest.path, data_dir)
    _confined(manifest.base, data_dir)
    if not manifest.files:
        raise UpdateRejected(f"version {manifest.version} names no files")
    for name, wanted in manifest.files.items():
        digest = _digest(_confined(str(folder / name), data_dir))
        if digest != wanted:
            raise UpdateRejected(f"{folder / name}: want sha256 {wanted[:12]}..., got {digest[:12]}...")
    stray = {file.name for file in folder.glob("*.safetensors")} - manifest.files.keys()
    if stray:
        raise UpdateRejected(f"{folder} holds {sorted(stray)}, which version {manifest.version} does not name")
    found = tensor_shapes(folder)
    if served is not None and found != served:
        odd = min(name for name, _ in served.items() ^ found.items())
        raise UpdateRejected(
            f"{folder} is not a version of the model that is served: {odd!r} has the shape {found.get(odd, 'none')}, "
            f"want {served.get(odd, 'none')}"
        )
    return found


def whole_model(manifest: PolicyManifest, folder: Path) -> Path:
    """Make `folder`: links to what the base holds beside weights, and to the version's weights. For an engine's start.

    The weights of a version that is an adapter are the base's.

    Raises:
        UpdateRejected: the base or the version is gone.
    """
    folder.mkdir()
    try:
        base = list(Path(manifest.base).iterdir())
        beside = [file for file in base if not file.name.endswith(WEIGHT_FILES)]
        version = [Path(manifest.path) / name for name in manifest.files]
        for file in base if manifest.adapter_rank else [*beside, *version]:
            (folder / file.name).symlink_to(file.resolve(strict=True))
    except OSError as error:
        raise UpdateRejected(
            f"version {manifest.version} can't be linked into a folder for the engine: {error}"
        ) from error
    return folder


def tensor_shapes(folder: Path) -> Shapes:
    """Those of all safetensors files of a folder, from their headers.

    Raises:
        UpdateRejected: a file is not a safetensors file, or there is none.
    """
    shapes: Shapes = {}
    for file in sorted(folder.glob("*.safetensors")):
        header = _header(file)
        shapes |= {name: tuple(entry["shape"]) for name, entry in header.items() if name != "__metadata__"}
    if not shapes:
        raise UpdateRejected(f"no tensors in {folder}")
    return shapes


def _header(file: Path) -> dict[str, dict[str, list[int]]]:
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        if length > HEADER_LIMIT:
            raise UpdateRejected(f"{file} is not a safetensors file")
        try:
            header: dict[str, dict[str, list[int]]] = json.loads(opened.read(length))
        except ValueError as error:
            raise UpdateRejected(f"{file} is not a safetensors file: {error}") from error
    return header


def _confined(path: str, data_dir: Path) -> Path:
    try:
        resolved = Path(path).resolve(strict=True)
    except OSError as error:
        final = isinstance(error, FileNotFoundError | NotADirectoryError)
        raise UpdateRejected(f"{path}: {error.strerror}", final=final) from error
    if not resolved.is_relative_to(data_dir.resolve()):
        raise UpdateRejected(f"{path} is outside {data_dir}")
    return resolved


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
