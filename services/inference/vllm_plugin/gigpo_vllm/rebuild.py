"""Builds the model again with new weights, in the way in which the server built it at its start.

vLLM's own reload runs each layer's processing a second time in place. A layer that keeps state from the first run comes
out wrong without an error: experts on a CPU are packed by the first load only, so their kernel then reads raw weights
as packed ones, and a tied head keeps its packed copy of the old embeddings. A fresh start is always right, so
everything is built again here, except for the state that the runner gave the layers after the start, such as key-value
caches.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import safe_open
from vllm.config import ModelConfig, VllmConfig, set_current_vllm_config
from vllm.config.load import LoadConfig
from vllm.model_executor.model_loader.default_loader import DefaultModelLoader


def rebuild(model: torch.nn.Module, vllm_config: VllmConfig, files: list[Path]) -> None:
    """Become, in place, the model that a start with the weights in `files` would make.

    Only for a model that runs eagerly: a captured graph would go on reading the old tensors. Old and new weights are
    in memory together for a moment.

    Raises:
        ValueError: the files lack a weight; then the model is in no known state.
    """
    compilation = vllm_config.compilation_config
    former = dict(compilation.static_forward_context)
    compilation.static_forward_context.clear()  # a layer that is made enters itself, and only once
    compilation.static_all_moe_layers.clear()
    loader = _FileLoader(vllm_config.load_config, files)
    with set_current_vllm_config(vllm_config):
        fresh = loader.load_model(vllm_config=vllm_config, model_config=vllm_config.model_config)
    for name, layer in compilation.static_forward_context.items():
        _hand_over(former[name], layer)
    _replace(model, fresh)


def tensors(files: list[Path]) -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor of safetensors files, by name."""
    for file in files:
        with safe_open(file, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118 - a safe_open is not a mapping
                yield name, opened.get_tensor(name)


class _FileLoader(DefaultModelLoader):
    """vLLM's loader, with the weights of other files than the model folder's."""

    def __init__(self, load_config: LoadConfig, files: list[Path]) -> None:
        super().__init__(load_config)
        self._files = files

    def get_all_weights(self, model_config: ModelConfig, model: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
        self.counter_before_loading_weights = time.perf_counter()
        yield from tensors(self._files)


def _hand_over(former: torch.nn.Module, layer: torch.nn.Module) -> None:
    """Give a new layer what the runner gave the former one: its cache, and whatever loading alone does not set."""
    given = former.__dict__.keys() - layer.__dict__.keys()
    for name in given | ({"kv_cache"} & former.__dict__.keys()):
        setattr(layer, name, former.__dict__[name])


def _replace(model: torch.nn.Module, fresh: torch.nn.Module) -> None:
    """Let whoever holds `model` have `fresh`, and let go of the old layers' tensors.

    The server keeps what it made at its start out of the garbage collector's sight, so cycles there would never be
    freed.
    """
    kept = set(fresh.modules())  # rotary embeddings are shared between models
    old = [module for module in model.modules() if module is not model and module not in kept]
    model.__dict__ = fresh.__dict__
    for module in old:
        module.__dict__.clear()
