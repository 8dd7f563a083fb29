"""Loads a policy from a folder in Hugging Face format."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from transformers.utils import logging as transformers_logging

from services.contracts.adapter_files import ADAPTER_CONFIG
from services.contracts.attention import attention_for, without_choice
from services.contracts.mismatch import Dtype
from services.trainer.learner.errors import PolicyFolderError
from services.trainer.learner.scratch import build_scratch
from services.trainer.learner.weights import WEIGHTS, save_weights

__all__ = ["WEIGHTS", "Dtype", "build_scratch", "load_policy", "policy_device", "save_weights"]

WANTED = ("config.json", "tokenizer.json", "tokenizer_config.json")
"""Files that a folder must hold beside weights."""


def policy_device() -> torch.device:
    """The device of policies: the GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def load_policy(folder: Path, torch_dtype: Dtype = "float32", device: torch.device | None = None) -> PreTrainedModel:
    """The causal language model in `folder`, in evaluation mode.

    Only safetensors are read and no code from the folder is run.

    Args:
        device: where; None: on `policy_device()`.

    Raises:
        PolicyFolderError: names every missing file, or says why it can't be loaded.
    """
    if problems := _missing(folder) or _unsupported(folder):
        raise PolicyFolderError(folder, problems)
    quiet: Any = transformers_logging
    quiet.disable_progress_bar()  # a service writes logs, not bars
    auto: Any = AutoModelForCausalLM  # untyped upstream
    try:
        model, report = auto.from_pretrained(
            folder,
            config=without_choice(AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)),
            dtype=getattr(torch, torch_dtype),
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    except MemoryError:
        raise
    except Exception as error:  # files of others; each architecture fails in its own way
        raise PolicyFolderError(folder, [f"can't be loaded: {_reason(error)}"]) from error
    if (misfit := _misfit(model, report)) is not None:
        raise PolicyFolderError(folder, [misfit])
    if not model._weight_conversions:
        model._weight_conversions = None  # files with the names of memory: saving writes the kind's checkpoint names
    if attention := attention_for(model.config):
        model.set_attn_implementation(attention)
    loaded: PreTrainedModel = model.to(device or policy_device()).eval()
    return loaded


def _misfit(model: PreTrainedModel, report: Mapping[str, Any]) -> str | None:
    """Why the tensors of the files are not those of the model; None: they are."""
    if other := sorted(report["mismatched_keys"]):
        name, got, wanted = other[0]
        return f"{name}: want shape {list(wanted)}, as config.json has it, got {list(got)}"
    if absent := sorted(report["missing_keys"]):
        return f"weights lack {len(absent)} tensor(s), the first is {absent[0]}"
    if surplus := _left_out(model, report["unexpected_keys"]):
        sentence = f"weights hold {len(surplus)} tensor(s) that {type(model).__name__} leaves out"
        return f"{sentence}, the first is {surplus[0]}"
    return None


def _left_out(model: PreTrainedModel, names: Iterable[str]) -> list[str]:
    """Tensors of the files without which a part of the model computes, such as a layer's bias."""
    parts = {name: part for name, part in model.named_modules() if next(part.children(), None) is None}
    owned = {name: name.rpartition(".") for name in sorted(names)}
    return [name for name, (part, _, own) in owned.items() if part in parts and getattr(parts[part], own, None) is None]


def _reason(error: Exception) -> str:
    """Its first line, and the next one where that announces it; further ones list all that could be."""
    lines = [line.strip() for line in str(error).strip().splitlines()] or [""]
    first = " ".join(lines[: 2 if lines[0].endswith(":") else 1])[:300]
    return f"{type(error).__name__}: {first}" if isinstance(error, KeyError | AssertionError) else first


def _missing(folder: Path) -> list[str]:
    if not folder.is_dir():
        return ["no such folder"]
    problems = [f"{name} is missing" for name in WANTED if not (folder / name).is_file()]
    if not any(folder.glob("*.safetensors")):
        problems.append(f"{WEIGHTS} is missing (other weight formats are not read)")
    return problems


def _unsupported(folder: Path) -> list[str]:
    """Settings in config.json that transformers loads and this trainer can't train; a file that is no JSON has none."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        kind, quantised = config.get("model_type"), config.get("quantization_config")
    except (ValueError, AttributeError):
        return []
    problems = []
    if (folder / ADAPTER_CONFIG).exists():
        # transformers would put it on top where peft is installed, and engines would not
        wanted = "want a whole model, got an adapter; merge it into the model and remove this file"
        problems.append(f"{ADAPTER_CONFIG}: {wanted}")
    if kind in CONFIG_MAPPING and kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        problems.append(f"config.json: model_type: want a causal language model, got {kind!r}")
    if quantised is not None:
        method = quantised.get("quant_method") if isinstance(quantised, dict) else quantised
        problems.append(f"config.json: quantization_config: want weights that are not quantised, got {method!r}")
    return problems
