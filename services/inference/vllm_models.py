"""Models that vLLM computes otherwise than transformers, and the flags with which it computes them alike.

The trainer computes what transformers does, so a replica that differs would sample from another policy.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

_SIGMOID_ROUTERS = frozenset({"deepseek_v3", "deepseek_v32", "glm_moe_dsa"})
"""Kinds whose experts transformers always chooses by sigmoid and correction bias; vLLM reads the way from the config,
and takes softmax without a bias where the config does not say it, as after `save_pretrained` of a new model."""
_SIGMOID = {"scoring_func": "sigmoid", "topk_method": "noaux_tc"}
_LATENT = "kv_lora_rank"
"""Key of models whose attention compresses keys and values."""


def model_flags(base: Path, *, cuda: bool) -> dict[str, str]:
    """Flags for the model in the folder `base`; none for one that vLLM computes as transformers does."""
    try:
        config = json.loads((base / "config.json").read_bytes())
    except (OSError, ValueError):  # vLLM says it better
        return {}
    flags: dict[str, str] = {}
    if config.get("model_type") in _SIGMOID_ROUTERS and (lacking := _lacking(config)):
        flags["--hf-overrides"] = json.dumps(lacking)
    if not cuda and config.get(_LATENT):
        # vLLM 0.32's kernel for rotary embeddings on a CPU turns one head only of the queries of such models
        flags["--compilation-config"] = json.dumps({"custom_ops": ["-rotary_embedding"]})
    return flags


def _lacking(config: Mapping[str, object]) -> dict[str, str]:
    return {key: value for key, value in _SIGMOID.items() if config.get(key) != value}
