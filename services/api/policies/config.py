"""Reads a model's config.json: can the model be trained, and is it large enough for the job?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeGuard

from services.api.policies.values import value_problems
from services.contracts.job import JobSpec
from services.contracts.model_kinds import NO_POLICIES, TRAINABLE
from services.contracts.plain_errors import meant, shown

CONFIG = "config.json"
_POSITIONS = ("max_position_embeddings", "n_positions", "max_seq_len")
_COUNTS = {
    "vocab_size": ("vocab_size",),
    "hidden_size": ("hidden_size", "n_embd", "d_model"),
    "intermediate_size": ("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size"),
    "num_hidden_layers": ("num_hidden_layers", "n_layer", "n_layers"),
    "num_attention_heads": ("num_attention_heads", "n_head", "n_heads"),
    "num_key_value_heads": ("num_key_value_heads",),
    "head_dim": ("head_dim",),
}
"""A size -> the names that configs have for it."""
_STRETCHED = frozenset({"linear", "dynamic", "yarn"})
"""Kinds of `rope_scaling` whose factor says how many times more positions there are."""
_LISTED = _COUNTS["intermediate_size"]
"""Sizes that some kinds have one of for each layer."""
_CLASSES = {
    "gemma": "Gemma",
    "granite": "Granite",
    "llama": "Llama",
    "mistral": "Mistral",
    "qwen2": "Qwen2",
    "qwen3": "Qwen3",
}
"""Kind -> the beginning of its class; vLLM goes by the class, transformers by the kind."""
_ENDS_OF_HEADS = ("ForCausalLM", "ForConditionalGeneration", "LMHeadModel", "Model")


def text_config(config: Mapping[str, object]) -> Mapping[str, object]:
    """The part that describes the language model: of models that also see or hear it is a section."""
    section = config.get("text_config")
    return section if isinstance(section, dict) else config


def size(config: Mapping[str, object], name: str) -> tuple[str, int] | None:
    """The key that gives this size, and its value; None: there is none, or it is no count."""
    for key in _COUNTS[name]:
        value = text_config(config).get(key)
        if _is_count(value):
            return key, value
    return None


def config_problems(config: Mapping[str, object]) -> list[str]:
    """The reason why the model cannot be trained, whatever the job: `config.json: KEY: want ..., got ...`."""
    kind = _kind_problem(config)
    found = [kind] if kind else [*_head_problems(config), *_size_problems(config), *_value_problems(config)]
    return [f"{CONFIG}: {problem}" for problem in found]


def positions_problem(config: Mapping[str, object], spec: JobSpec) -> str | None:
    """Why the model cannot read a prompt and a reply of the job; None: it can, or the config names no limit."""
    text, needed = text_config(config), max(spec.prompt_and_response_tokens, spec.max_model_len)
    key = next((key for key in _POSITIONS if _is_count(text.get(key))), None)
    if key is None or (limit := _positions(text, key)) >= needed:
        return None
    if spec.inference.vllm_max_model_len == needed:
        return f"{CONFIG}: {key}: want at least {needed} (vllm_max_model_len), got {limit}"
    parts = f"max_prompt_tokens {spec.environment.max_prompt_tokens} and max_completion_length "
    parts += f"{spec.rollout.max_completion_length}"
    if spec.environment.interaction != "steps":
        parts = "max_context_tokens"
    wanted = f"at least {needed} ({parts})"
    return f"{CONFIG}: {key}: want {wanted}, got {limit}"


def _positions(text: Mapping[str, object], key: str) -> int:
    """Tokens that the model can read, as vLLM counts them."""
    limit, scaling = text[key], text.get("rope_scaling") or text.get("rope_parameters")
    assert isinstance(limit, int)
    if not isinstance(scaling, dict):
        return limit
    kind, factor = scaling.get("rope_type", scaling.get("type")), scaling.get("factor")
    if kind not in _STRETCHED or not isinstance(factor, int | float):
        return limit
    original = scaling.get("original_max_position_embeddings")
    return max(limit, int(factor * (original if _is_count(original) else limit)))


def _kind_problem(config: Mapping[str, object]) -> str | None:
    kind = config.get("model_type")
    if not isinstance(kind, str) or not kind:
        return f"model_type: want the kind of model, such as qwen2 or llama, {_got(config, 'model_type')}"
    if kind in NO_POLICIES or config.get("is_encoder_decoder") is True:
        return f"model_type: want a decoder that writes one token after the other, got {shown(kind)}"
    if kind not in TRAINABLE:
        own = "; its own code (auto_map) is never run here" if config.get("auto_map") else ""
        return (
            f"model_type: want a causal language model that transformers knows, got {shown(kind)}"
            f"{meant(kind, TRAINABLE, cutoff=0.75)}{own}"
        )
    if (quantised := config.get("quantization_config")) is not None:
        method = quantised.get("quant_method") if isinstance(quantised, dict) else quantised
        return f"quantization_config: want weights in float32, float16 or bfloat16, got {shown(method)}"
    return None


def _head_problems(config: Mapping[str, object]) -> Iterator[str]:
    named = config.get("architectures")
    if named is None:
        return
    names = [name for name in named if isinstance(name, str)] if isinstance(named, list) else []
    if not names:
        yield f"architectures: want a list of class names such as [Qwen2ForCausalLM], got {shown(named)}"
    elif not any(name.endswith(_ENDS_OF_HEADS) for name in names):
        yield f"architectures: want a model with a head for words, such as Qwen2ForCausalLM, got {shown(names[0])}"
    elif (kind := str(config.get("model_type"))) in _CLASSES and names[0].endswith("ForCausalLM"):
        wanted = f"{_CLASSES[kind]}ForCausalLM"
        if wanted not in names:
            yield f"architectures: want {wanted} (model_type {kind}), got {shown(names[0])}"


def _size_problems(config: Mapping[str, object]) -> Iterator[str]:
    text = text_config(config)
    names = [*(key for keys in _COUNTS.values() for key in keys), *_POSITIONS]
    wrong = [key for key in names if not _may_be_count(text.get(key), listed=key in _LISTED)]
    for key in wrong:
        yield f"{key}: want a whole number > 0, got {shown(text[key])}"
    if wrong:
        return
    heads, groups = size(config, "num_attention_heads"), size(config, "num_key_value_heads")
    if heads and groups and heads[1] % groups[1]:
        yield f"{groups[0]}: want a divisor of {heads[0]} {heads[1]}, got {groups[1]}"


def _value_problems(config: Mapping[str, object]) -> Iterator[str]:
    """Values on which transformers fails, or which it misreads, when it makes the model."""
    if not isinstance(config.get("text_config", {}), dict | None):
        yield f"text_config: want a section of keys, got {shown(config['text_config'])}"
    text, vocabulary = text_config(config), size(config, "vocab_size")
    padding = text.get("pad_token_id")
    if vocabulary and isinstance(padding, int) and padding >= vocabulary[1]:
        yield f"pad_token_id: want a token id below {vocabulary[0]} {vocabulary[1]}, got {padding}"
    yield from value_problems(text, config.get("model_type"))


def _may_be_count(value: object, *, listed: bool) -> bool:
    """Some kinds leave a size to their default."""
    return value is None or _is_count(value) or (listed and isinstance(value, list))


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _got(config: Mapping[str, object], key: str) -> str:
    return f"got {shown(config[key])}" if key in config else "there is none"
