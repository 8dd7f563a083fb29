"""Files of tensors that ranks hold pieces of: every rank writes its own, and any number of ranks reads them.

This is PyTorch's distributed checkpoint in its layout of safetensors, without pickles: a file's header says which part
of each tensor it holds.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

import torch.distributed as dist
from torch import Size, Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save


class PiecesNotWritten(OSError):
    """A rank could not write its pieces; all ranks raise it."""


def write_pieces(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write this rank's pieces into `folder`; all ranks call it, and it returns when all have written.

    Raises:
        PiecesNotWritten.
    """
    writer = HuggingFaceStorageWriter(str(folder), save_distributed=True)
    try:
        save({name: tensor.detach() for name, tensor in tensors.items()}, storage_writer=writer)
    except CheckpointException as error:
        cause = next(iter(error.failures.values()))[0]
        if isinstance(cause, OSError):
            raise PiecesNotWritten(cause.errno, cause.strerror, cause.filename) from error
        raise PiecesNotWritten(f"{folder}: {cause}") from error


def shapes_in(folder: Path) -> dict[str, Size]:
    """Name -> whole shape of each tensor whose pieces are in `folder`."""
    found = HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata
    return {name: tensor.size for name, tensor in found.items() if isinstance(tensor, TensorStorageMetadata)}


def read_pieces(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Fill tensors that `folder` holds, or this rank's pieces of them; all ranks call it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled")  # one process alone is meant
        load(
            {name: tensor.detach() for name, tensor in tensors.items()},
            storage_reader=HuggingFaceStorageReader(str(folder)),
            no_dist=not dist.is_initialized(),
        )
