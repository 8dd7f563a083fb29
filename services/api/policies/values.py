"""Reads the values of config.json: each is of the type and in the range that transformers and vLLM compute with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeGuard

from services.contracts.plain_errors import meant, shown

_KNOWN = """
    gelu gelu_10 gelu_accurate gelu_fast gelu_new gelu_python gelu_python_tanh gelu_pytorch_tanh hardswish laplace
    leaky_relu linear mish prelu quick_gelu relu relu2 relu6 sigmoid silu sqrtsoftplus swish tanh xielu
"""
ACTIVATIONS = frozenset(_KNOWN.split())
"""Activations by the names that transformers has for them; a test compares them with the installed version."""
_ACTIVATION_KEYS = ("hidden_act", "hidden_activation", "activation_function")
_FLAGS = ("tie_word_embeddings", "attention_bias", "mlp_bias", "use_cache")
_TOKENS = ("pad_token_id", "bos_token_id")
_NUMBERS = ("_eps", "_epsilon", "_dropout", "_pdrop", "_multiplier", "_softcapping")
"""Endings of keys whose values are numbers."""
_ABOVE_0 = frozenset({"attn_logit_softcapping", "final_logit_softcapping", "logits_scaling", "rope_theta"})
_FURTHER_NUMBERS = frozenset({"dropout", "initializer_range", "partial_rotary_factor"}) | _ABOVE_0
_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts")
_CHOSEN = ("num_experts_per_tok", "moe_k", "moe_topk", "top_k_experts")
_ROTATIONS: Mapping[str, tuple[str, ...]] = {
    "default": (),
    "proportional": (),
    "linear": ("factor",),
    "dynamic": ("factor",),
    "yarn": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor"),
    "longrope": ("short_factor", "long_factor"),
}
"""Kind of rotary positions that transformers knows -> the keys that it needs."""
_LONGROPE = {"su": "longrope", "yarn": "longrope"}
_OTHER_NAMES: Mapping[object, Mapping[str, str]] = {"phi3": _LONGROPE, "phi4_multimodal": _LONGROPE}
"""Kind of model -> names of rotations that it alone has."""


def value_problems(text: Mapping[str, object], kind: object) -> Iterator[str]:
    """Values on which transformers fails, or with which it computes nonsense: `KEY: want ..., got ...`.

    Args:
        text: the section of the config that describes the language model.
        kind: `model_type` of the whole config.
    """
    for key, value in text.items():
        if value is not None and (wanted := _wanted(key, value)):
            yield f"{key}: want {wanted}, got {shown(value)}{_meant(key, value)}"
    for key in ("rope_scaling", "rope_parameters"):
        yield from _rotation_problems(key, text.get(key), _OTHER_NAMES.get(kind, {}))
    yield from _longrope_problems(text)
    yield from _layer_problems(text)
    yield from _expert_problems(text)


def _layer_problems(text: Mapping[str, object]) -> Iterator[str]:
    window, layers, kinds = text.get("sliding_window"), text.get("num_hidden_layers"), text.get("layer_types")
    if window is not None and not (_is_whole(window) and window >= (text.get("use_sliding_window") is not False)):
        yield f"sliding_window: want a whole number > 0 or null, got {shown(window)}"
    if kinds is not None and _is_whole(layers) and not (isinstance(kinds, list) and len(kinds) == layers):
        got = f"{len(kinds)} of them" if isinstance(kinds, list) else shown(kinds)
        yield f"layer_types: want a list of {layers} kinds (num_hidden_layers), got {got}"


def _expert_problems(text: Mapping[str, object]) -> Iterator[str]:
    for key in (*_EXPERTS, *_CHOSEN):
        if (value := text.get(key)) is not None and not (_is_whole(value) and value >= 0):
            yield f"{key}: want a whole number >= 0, got {shown(value)}"
            return
    experts, chosen = (next((key for key in keys if text.get(key)), None) for keys in (_EXPERTS, _CHOSEN))
    if experts and chosen and int(str(text[chosen])) > int(str(text[experts])):
        yield f"{chosen}: want at most {experts} {text[experts]}, got {text[chosen]}"


def _wanted(key: str, value: object) -> str:
    """The words for what the key's value has to be; empty: it is that."""
    if key in _ACTIVATION_KEYS and (not isinstance(value, str) or value not in ACTIVATIONS):
        return "an activation that transformers knows"
    if key in _FLAGS and not isinstance(value, bool):
        return "true or false"
    if key in _TOKENS and not _is_whole(value):
        return "a token id or null"
    if not (key.endswith(_NUMBERS) or key in _FURTHER_NUMBERS):
        return ""
    if key in _ABOVE_0 and not (_is_number(value) and value > 0):
        return "a number > 0"
    return "" if _is_number(value) and (value >= 0 or not key.endswith("eps")) else "a number"


def _meant(key: str, value: object) -> str:
    return meant(value, ACTIVATIONS) if key in _ACTIVATION_KEYS and isinstance(value, str) else ""


def _rotation_problems(key: str, rotation: object, names: Mapping[str, str]) -> Iterator[str]:
    if rotation is None:
        return
    if not isinstance(rotation, dict):
        yield f"{key}: want a section of keys such as rope_type and factor, got {shown(rotation)}"
        return
    if rotation and all(isinstance(one, dict) for one in rotation.values()):  # one for each kind of layer
        for name, one in rotation.items():
            yield from _rotation_problems(f"{key}.{name}", one, names)
        return
    said = rotation.get("rope_type", rotation.get("type", "default"))
    kind = names.get(said, said) if isinstance(said, str) else said
    if not isinstance(kind, str) or kind not in _ROTATIONS:
        yield f"{key}: rope_type: want one of {', '.join(sorted(_ROTATIONS))}, got {shown(said)}"
        return
    for name in ("factor", "rope_theta"):
        if (value := rotation.get(name)) is not None and not (_is_number(value) and value > 0):
            yield f"{key}: {name}: want a number > 0, got {shown(value)}"
    if absent := [name for name in _ROTATIONS[kind] if rotation.get(name) is None]:
        yield f"{key}: {absent[0]}: want it for rope_type {said}, there is none"


def _longrope_problems(text: Mapping[str, object]) -> Iterator[str]:
    """Lists of factors without one number for each pair of a head's numbers, which transformers would stretch."""
    scaling = text.get("rope_scaling") or text.get("rope_parameters")
    width = _rotated(text, scaling) if isinstance(scaling, dict) else None
    if not isinstance(scaling, dict) or width is None:
        return
    for name in ("short_factor", "long_factor"):
        factors = scaling.get(name)
        if factors is not None and not (isinstance(factors, list) and len(factors) == width):
            got = f"{len(factors)} of them" if isinstance(factors, list) else shown(factors)
            yield f"rope_scaling: {name}: want a list of {width} numbers, half of a head's, got {got}"


def _rotated(text: Mapping[str, object], scaling: Mapping[str, object]) -> int | None:
    """Half of the numbers of a head that are rotated; None: the config does not say it."""
    heads, hidden = text.get("num_attention_heads"), text.get("hidden_size")
    head = text.get("head_dim")
    if "qk_rope_head_dim" in text or not (_is_whole(heads) and _is_whole(hidden) and heads):
        return None
    share = scaling.get("partial_rotary_factor", text.get("partial_rotary_factor", 1.0))
    return int((head if _is_whole(head) else hidden // heads) * share) // 2 if _is_number(share) else None


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
