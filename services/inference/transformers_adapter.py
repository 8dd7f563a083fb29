"""A LoRA adapter beside a transformers model: the files that the trainer publishes. Imports torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, set_peft_model_state_dict
from safetensors.torch import load_file
from transformers import PreTrainedModel

from services.contracts.adapter_files import ADAPTER, ADAPTER_CONFIG, PREFIX

_NAME = "policy"


@torch.no_grad()
def load_adapter(model: PreTrainedModel, folder: Path) -> None:
    """Give the model the adapter in `folder`, in place of the one that it had.

    Raises:
        ValueError: its tensors are not those of its settings.
    """
    if _NAME not in getattr(model, "peft_config", {}):
        model.add_adapter(LoraConfig.from_pretrained(str(folder)), _NAME)
        whole: Any = model  # untyped upstream
        whole.to(model.device).eval()
    named = {name.removeprefix(PREFIX): tensor for name, tensor in load_file(folder / ADAPTER).items()}
    problems: Any = set_peft_model_state_dict(model, named, adapter_name=_NAME)
    missing = [name for name in problems.missing_keys if "lora_" in name]
    if missing or problems.unexpected_keys:
        odd = [*missing, *problems.unexpected_keys]
        raise ValueError(f"{folder / ADAPTER}: want the tensors of {ADAPTER_CONFIG}, {odd[0]} is missing or odd")
