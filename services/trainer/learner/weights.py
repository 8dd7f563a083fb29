"""Weights as safetensors under the names of a checkpoint, which are what other programs read.

transformers renames and fuses tensors while it loads them (`embed_out` of GPT-NeoX, the experts of a mixture), and
turns that round when it saves. Tied weights are written once.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion
from transformers.modeling_utils import remove_tied_weights_from_state_dict

from services.contracts.mismatch import Dtype
from services.trainer.learner.ranks import gathered
from services.trainer.learner.tensor_files import write_tensors

WEIGHTS = "model.safetensors"
"""The one file weights are written to."""


def save_weights(model: PreTrainedModel, folder: Path, torch_dtype: Dtype = "float32") -> dict[str, str]:
    """Write the weights as safetensors: synced, then renamed, tied weights once. Makes `folder` if need be.

    Returns:
        File name -> hex sha256: the `files` of a `PolicyManifest`.
    """
    return write_weights(folder, checkpoint_tensors(model, torch_dtype))


def write_weights(folder: Path, tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """`save_weights` of what `checkpoint_tensors` gave."""
    folder.mkdir(parents=True, exist_ok=True)
    return {WEIGHTS: write_tensors(folder / WEIGHTS, tensors)}


def checkpoint_tensors(model: PreTrainedModel, torch_dtype: Dtype, *, keep: bool = True) -> dict[str, Tensor]:
    """The tensors of `save_pretrained`: parameters and persistent buffers on the CPU, none sharing memory; nothing
    where not `keep`, see `gathered`.

    Parameters have `torch_dtype`; buffers keep theirs, as rounding one (a router's correction bias) would route
    otherwise.
    """
    ignored = set(model._keys_to_ignore_on_save or ())
    state = {name: tensor for name, tensor in model.state_dict(keep_vars=True).items() if name not in ignored}
    once = remove_tied_weights_from_state_dict(gathered(state, keep=keep), model)
    dtype = getattr(torch, torch_dtype)
    buffers = {name for name, _ in model.named_buffers()}
    moved = {name: tensor.to(tensor.dtype if name in buffers else dtype) for name, tensor in once.items()}
    named: dict[str, Tensor] = revert_weight_conversion(model, moved)
    return {name: tensor.contiguous() for name, tensor in named.items()}
