"""LoRA by peft: adapters inside a frozen model. The reference policy is the model with its adapters off."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from torch import Tensor
from transformers import PreTrainedModel

from services.contracts.adapter_files import ADAPTER, ADAPTER_CONFIG, PREFIX
from services.contracts.mismatch import Dtype
from services.contracts.model import Model
from services.trainer.learner.errors import LearnerError
from services.trainer.learner.files import write_text
from services.trainer.learner.ranks import gathered
from services.trainer.learner.tensor_files import write_tensors

_NAME = "default"


def add_adapter(model: PreTrainedModel, wanted: Model, seed: int) -> None:
    """Freeze the model and put new adapters into it, float32; their products are 0, so the policy stays the same.

    Raises:
        LearnerError: no layer of the model has a name of `target_modules`.
    """
    targets = wanted.target_modules
    config = LoraConfig(
        r=wanted.lora_rank,
        lora_alpha=wanted.lora_alpha,  # type: ignore[arg-type]  # a float does as well
        lora_dropout=wanted.lora_dropout,
        target_modules="all-linear" if targets == ["all-linear"] else targets,
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            model.add_adapter(config, _NAME)
        except ValueError as error:
            raise LearnerError(f"target_modules: want names of this model's layers, got {targets}: {error}") from error
    for name, weight in model.named_parameters():
        weight.requires_grad_("lora_" in name)
        if weight.requires_grad:
            weight.data = weight.data.float()
    anything: Any = model  # untyped upstream
    anything.eval()


@contextmanager
def adapters_off(model: PreTrainedModel) -> Iterator[None]:
    """The model as it was before `add_adapter`.

    Adapters count as trained all the same: whoever shards weights asks that once, in the first forward.
    """
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    model.disable_adapters()
    for weight in trained:
        weight.requires_grad_(True)
    try:
        yield
    finally:
        model.enable_adapters()


@contextmanager
def dropping(model: PreTrainedModel, generator: torch.Generator, rank: int = 0) -> Iterator[None]:
    """The adapters' dropout is on, its noise drawn from `generator`, on each rank another; nothing is drawn where no
    adapter drops."""
    drops = [drop for layer in _layers(model) for drop in layer.lora_dropout.values() if getattr(drop, "p", 0.0) > 0]
    if not drops:
        yield
        return
    with torch.random.fork_rng():
        torch.manual_seed(int(torch.randint(1 << 31, (1,), generator=generator)) + rank)
        for drop in drops:
            drop.train()
        try:
            yield
        finally:
            for drop in drops:
                drop.eval()


def adapter_tensors(model: PreTrainedModel, torch_dtype: Dtype = "float32", *, keep: bool = True) -> dict[str, Tensor]:
    """The adapters under peft's names, on the CPU; nothing where not `keep`, see `gathered`."""
    tensors: dict[str, Tensor] = get_peft_model_state_dict(model, adapter_name=_NAME)
    dtype = getattr(torch, torch_dtype)
    return {PREFIX + name: tensor.to(dtype).contiguous() for name, tensor in gathered(tensors, keep=keep).items()}


def write_adapter(model: PreTrainedModel, folder: Path, tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Write the adapters in peft's format, which vLLM and peft load. Makes `folder` if need be.

    Args:
        tensors: see `adapter_tensors`.

    Returns:
        File name -> hex sha256: the `files` of a `PolicyManifest`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return {
        ADAPTER: write_tensors(folder / ADAPTER, tensors),
        ADAPTER_CONFIG: write_text(folder / ADAPTER_CONFIG, _config_text(model)),
    }


@contextmanager
def merged(model: PreTrainedModel) -> Iterator[None]:
    """The model without adapters, their products added to its weights; afterwards it is bit for bit what it was."""
    anything: Any = model  # `_hf_peft_config_loaded` decides what transformers takes for the model's weights
    layers: dict[str, Any] = {name: layer for name, layer in model.named_modules() if isinstance(layer, LoraLayer)}
    try:
        for name, layer in layers.items():
            model.set_submodule(name, _merged_layer(layer))
        anything._hf_peft_config_loaded = False
        yield
    finally:
        anything._hf_peft_config_loaded = True
        for name, layer in layers.items():
            model.set_submodule(name, layer)


@torch.no_grad()
def _merged_layer(layer: Any) -> torch.nn.Module:
    base: torch.nn.Module = layer.get_base_layer()
    weight: Any = base.weight
    whole = copy.copy(base)
    whole._parameters = dict(base._parameters)  # a shallow copy shares this dictionary with its original
    whole.weight = torch.nn.Parameter((weight.float() + layer.get_delta_weight(_NAME)).to(weight.dtype), False)
    return whole


def _layers(model: PreTrainedModel) -> list[LoraLayer]:
    return [layer for layer in model.modules() if isinstance(layer, LoraLayer)]


def _config_text(model: PreTrainedModel) -> str:
    """The adapters' settings, the same bytes for the same settings."""
    anything: Any = model
    settings = anything.peft_config[_NAME].to_dict() | {"inference_mode": True, "base_model_name_or_path": None}
    plain = {name: sorted(value) if isinstance(value, set | list) else value for name, value in settings.items()}
    return json.dumps(plain, indent=2, sort_keys=True, default=str) + "\n"
