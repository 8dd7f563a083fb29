"""The tensors of the kinds of models that most people bring, by name and shape: all follow from config.json.

The trainer alone knows the tensors of other kinds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from services.api.policies.config import CONFIG, size
from services.api.policies.safetensors_header import Tensor


@dataclass(frozen=True)
class _Kind:
    """The tensors of a kind beside a Llama's, and its defaults where a config leaves keys out."""

    biases: bool = False
    norms_of_heads: bool = False
    tied: bool = False
    switches: tuple[str, ...] = ()
    """Keys of a config that add biases."""
    head_dim: int | None = None
    """None: hidden_size / num_attention_heads."""


_QUERIES = ("self_attn.q", "self_attn.k", "self_attn.v")
_SWITCHED = {"attention_bias": (*_QUERIES, "self_attn.o"), "mlp_bias": ("mlp.gate", "mlp.up", "mlp.down")}
_BOTH = ("attention_bias", "mlp_bias")
_KINDS: Mapping[str, _Kind] = {
    "llama": _Kind(switches=_BOTH),
    "mistral": _Kind(),
    "granite": _Kind(switches=_BOTH),
    "gemma": _Kind(tied=True, head_dim=256, switches=_BOTH[:1]),
    "qwen2": _Kind(biases=True),
    "qwen3": _Kind(norms_of_heads=True, head_dim=128, switches=_BOTH[:1]),
}
_SIZES = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
)
_TRAINED = re.compile(r"layers\.(\d+)\.(?!.*rotary_emb).*\.(weight|bias)")
_PREFIX, _HEAD = "model.", "lm_head.weight"


def plain_problems(tensors: Mapping[str, Tensor], config: Mapping[str, object]) -> Iterator[str]:
    """The first tensor of a plain kind that is missing, of another shape, or too many; nothing for other kinds."""
    wanted = _wanted(config)
    there = {name.removeprefix(_PREFIX): tensor for name, tensor in tensors.items()}
    absent = [name for name in wanted if name not in there]
    if absent:
        kind = config["model_type"]
        yield f"{_full(absent[0])}: want this tensor ({CONFIG}: model_type {kind}), there is none{_more(absent)}"
        return
    for name, shape in wanted.items():
        if (got := there[name].shape) != shape:
            yield f"{_full(name)}: want shape {list(shape)}, as {CONFIG} has it, got {list(got)}"
            return
    if surplus := [name for name in there if _is_surplus(name, wanted, config)]:
        more = f", and {len(surplus) - 1} more" if len(surplus) > 1 else ""
        yield f"{_full(surplus[0])}: want no such tensor ({CONFIG}: model_type {config['model_type']}), got it{more}"


def _is_surplus(name: str, wanted: Mapping[str, object], config: Mapping[str, object]) -> bool:
    """Whether a layer would be computed without this tensor; layers beyond those of the config are not loaded."""
    layer, layers = _TRAINED.fullmatch(name), size(config, "num_hidden_layers")
    return bool(wanted and layer and layers and name not in wanted and int(layer[1]) < layers[1])


def _wanted(config: Mapping[str, object]) -> dict[str, tuple[int, ...]]:
    """Name, without the model's prefix -> shape; empty for another kind, or where the config leaves sizes out."""
    kind, found = _KINDS.get(str(config.get("model_type"))), [size(config, name) for name in _SIZES]
    sizes = [one[1] for one in found if one is not None]
    if kind is None or len(sizes) < len(_SIZES):
        return {}
    vocabulary, hidden, inner, layers, heads, groups = sizes
    said = config.get("head_dim")
    head = said if isinstance(said, int) else kind.head_dim or hidden // heads
    layer = _layer(hidden, inner, (heads * head, groups * head))
    biased = [*(_QUERIES if kind.biases else ()), *_biased(config, kind)]
    layer |= {f"{one}_proj.bias": layer[f"{one}_proj.weight"][:1] for one in biased}
    if kind.norms_of_heads:
        layer |= {f"self_attn.{one}_norm.weight": (head,) for one in "qk"}
    wanted: dict[str, tuple[int, ...]] = {"embed_tokens.weight": (vocabulary, hidden), "norm.weight": (hidden,)}
    wanted |= {f"layers.{number}.{name}": shape for number in range(layers) for name, shape in layer.items()}
    if not config.get("tie_word_embeddings", kind.tied):
        wanted[_HEAD] = (vocabulary, hidden)
    return wanted


def _biased(config: Mapping[str, object], kind: _Kind) -> list[str]:
    """Projections that have a bias because the config switches it on."""
    switched = [key for key in kind.switches if config.get(key) is True]
    return [one for key in switched for one in _SWITCHED[key]]


def _layer(hidden: int, inner: int, projected: tuple[int, int]) -> dict[str, tuple[int, ...]]:
    queries, keys = projected
    return {
        "self_attn.q_proj.weight": (queries, hidden),
        "self_attn.k_proj.weight": (keys, hidden),
        "self_attn.v_proj.weight": (keys, hidden),
        "self_attn.o_proj.weight": (hidden, queries),
        "mlp.gate_proj.weight": (inner, hidden),
        "mlp.up_proj.weight": (inner, hidden),
        "mlp.down_proj.weight": (hidden, inner),
        "input_layernorm.weight": (hidden,),
        "post_attention_layernorm.weight": (hidden,),
    }


def _full(name: str) -> str:
    return name if name == _HEAD else _PREFIX + name


def _more(names: list[str]) -> str:
    return f", and {len(names) - 1} more are missing" if len(names) > 1 else ""
