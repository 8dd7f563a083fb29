"""Weights as safetensors under the names of a checkpoint, which are what other programs read.

transformers renames and fuses tensors while it loads them (`embed_out` of GPT-NeoX, the experts of a mixture), and
turns that round when it saves. Tied weights are written once.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion
from transformers.modeling_utils import remove_tied_weights_from_state_dict

from services.contracts.mismatch import Dtype
from services.trainer.learner.files import write_tensors

WEIGHTS = "model.safetensors"
"""The one file weights are written to."""


def save_weights(model: PreTrainedModel, folder: Path, torch_dtype: Dtype = "float32") -> dict[str, str]:
    """Write the weights as safetensors: synced, then renamed, tied weights once. Makes `folder` if need be.

    Returns:
        File name -> hex sha256: the `files` of a `PolicyManifest`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return {WEIGHTS: write_tensors(folder / WEIGHTS, checkpoint_tensors(model, getattr(torch, torch_dtype)))}


def checkpoint_tensors(model: PreTrainedModel, dtype: torch.dtype) -> dict[str, Tensor]:
    """What `save_pretrained` would write: parameters and persistent buffers on the CPU, none sharing memory.

    Parameters have `dtype`; buffers keep theirs, as rounding one (a router's correction bias) would route otherwise.
    """
    ignored = set(model._keys_to_ignore_on_save or ())
    state = {name: tensor for name, tensor in model.state_dict().items() if name not in ignored}
    once = remove_tied_weights_from_state_dict(state, model)
    buffers = {name for name, _ in model.named_buffers()}
    moved = {name: _on_cpu(tensor, tensor.dtype if name in buffers else dtype) for name, tensor in once.items()}
    named: dict[str, Tensor] = revert_weight_conversion(model, moved)
    return {name: tensor.contiguous() for name, tensor in named.items()}


def _on_cpu(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor.detach().to("cpu", dtype)
