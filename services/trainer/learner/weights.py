"""Weights as safetensors, tied ones written once, in the form that vLLM and transformers load."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

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
    return {WEIGHTS: write_tensors(folder / WEIGHTS, named_weights(model, getattr(torch, torch_dtype)))}


def named_weights(model: PreTrainedModel, dtype: torch.dtype) -> dict[str, Tensor]:
    """Checkpoint name -> contiguous tensor on the CPU; of names that share memory only the first."""
    seen: set[int] = set()
    named: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        if tensor.data_ptr() not in seen:
            seen.add(tensor.data_ptr())
            named[name] = tensor.detach().to("cpu", dtype).contiguous()
    return named
