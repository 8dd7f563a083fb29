"""Writes files of tensors atomically."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from services.kit.files import whole_file
from services.trainer.learner.files import READABLE, file_hash


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> str:
    """Write a safetensors file; return its hex sha256. Tensors must be contiguous and share no memory.

    Raises:
        OSError: the disk refuses it; nothing is left of it.
    """
    with whole_file(path) as unfinished:
        try:
            save_file(dict(tensors), unfinished, metadata={"format": "pt", **(metadata or {})})
        except SafetensorError as error:
            raise OSError(f"{path}: {error}") from error
        unfinished.chmod(READABLE)
        return file_hash(unfinished)
