"""The weights of a model's folder: every file that is named is there and whole, and they are those of its config."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from services.api.policies.config import CONFIG, size
from services.api.policies.plain_kinds import plain_problems
from services.api.policies.safetensors_header import Tensor, WeightsProblem, read_header
from services.contracts.plain_errors import shown

WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
TRAINED_DTYPES = frozenset({"F64", "F32", "F16", "BF16"})
_EMBEDDING = re.compile(r"(.*\.)?(embed_tokens|wte|embed_in|word_embeddings|tokens_embed|tok_embeddings)\.weight")
_HEAD = re.compile(r"(.*\.)?(lm_head|embed_out)\.weight")
_PLAIN_HEADS = frozenset({"llama", "mistral", "qwen2"})
_LAYER = re.compile(r"(?:.*\.)?(?:layers|h|blocks)\.(\d+)\..*")


def weight_files(folder: Path) -> list[Path]:
    """The files that are loaded, as transformers chooses them; others with tensors may lie beside them.

    Raises:
        WeightsProblem: there are none, or the index names other ones than there are.
    """
    whole, index = folder / WHOLE, folder / INDEX
    named = sorted({*_index(index).values()}) if index.is_file() else []
    if whole.is_file():
        if named and named != [WHOLE]:
            raise WeightsProblem(f"{INDEX}: want it without {WHOLE} beside it, got both, and it names {named[0]}")
        return [whole]
    if not named:
        others = sorted(path.name for path in folder.glob("*.safetensors"))
        raise WeightsProblem(f"want {WHOLE} or {INDEX}, got {', '.join(others[:3]) or 'neither'}")
    missing = [name for name in named if not (folder / name).is_file()]
    if missing:
        raise WeightsProblem(f"{INDEX}: weight_map: want {len(named)} files, {missing[0]} is missing{_more(missing)}")
    return [folder / name for name in named]


def tensors_of(folder: Path) -> dict[str, Tensor]:
    """Name -> tensor of all that is loaded. Raises WeightsProblem for files that are not whole, or not there."""
    found: dict[str, Tensor] = {}
    places: dict[str, str] = {}
    for path in weight_files(folder):
        held = read_header(path)
        if twice := next((name for name in held if name in places), None):
            raise WeightsProblem(f"{twice}: want this tensor in one file, got it in {places[twice]} and {path.name}")
        places |= dict.fromkeys(held, path.name)
        found |= held
    if not (folder / WHOLE).is_file():
        absent = [name for name in _index(folder / INDEX) if name not in found]
        if absent:
            raise WeightsProblem(f"{INDEX}: weight_map: no file holds {absent[0]}{_more(absent)}")
    return found


def weights_problems(tensors: Mapping[str, Tensor], config: Mapping[str, object]) -> list[str]:
    """The reason why the tensors cannot be the weights of this config: `TENSOR: want ..., got ...`."""
    if not tensors:
        return ["want tensors in the safetensors files, got none"]
    found = [*_shape_problems(tensors, config), *_projection_problems(tensors, config)]
    found = [*_dtype_problems(tensors), *found[:1], *_layer_problems(tensors, config)]
    return found or list(plain_problems(tensors, config))


def embedded_tokens(tensors: Mapping[str, Tensor]) -> int | None:
    """Rows of the embedding of tokens; None: none of the tensors has one of its usual names."""
    rows = [one.shape[0] for name, one in tensors.items() if _EMBEDDING.fullmatch(name) and len(one.shape) == 2]
    return max(rows, default=None)


def _index(path: Path) -> dict[str, str]:
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError):
        raise WeightsProblem(f"{INDEX}: want a JSON object that can be read") from None
    named = document.get("weight_map") if isinstance(document, dict) else None
    if not isinstance(named, dict) or not named:
        raise WeightsProblem(f"{INDEX}: weight_map: want the file of every tensor, got {shown(named)}")
    if not isinstance(document.get("metadata"), dict):
        given = shown(document["metadata"]) if "metadata" in document else "none"
        raise WeightsProblem(
            f"{INDEX}: metadata: want an object such as {{}}, without which it does not load, got {given}"
        )
    for tensor, file in named.items():
        if not isinstance(file, str) or "/" in file or not file.endswith(".safetensors"):
            raise WeightsProblem(f"{INDEX}: weight_map: {tensor}: want a safetensors file beside it, got {shown(file)}")
    return named


def _dtype_problems(tensors: Mapping[str, Tensor]) -> Iterator[str]:
    wrong = {name: one.dtype for name, one in tensors.items() if is_weight(name) and one.dtype not in TRAINED_DTYPES}
    if wrong:
        name, dtype = next(iter(wrong.items()))
        wanted = f"want float32, float16 or bfloat16 (quantised weights cannot be trained), got {dtype}"
        yield f"{name}: {wanted}{_more(list(wrong))}"


def is_weight(name: str) -> bool:
    """Buffers may hold whole numbers: masks, positions."""
    return name.endswith(("weight", "weights", "_proj", "experts"))


def _shape_problems(tensors: Mapping[str, Tensor], config: Mapping[str, object]) -> Iterator[str]:
    vocabulary, hidden = size(config, "vocab_size"), size(config, "hidden_size")
    for name, tensor in tensors.items():
        embedding = _EMBEDDING.fullmatch(name) is not None
        if len(tensor.shape) != 2 or not (embedding or _HEAD.fullmatch(name)):
            continue
        if vocabulary and tensor.shape[0] != vocabulary[1]:
            yield f"{name}: want {vocabulary[1]} rows ({CONFIG}: {vocabulary[0]}), got {tensor.shape[0]}"
            return
        if hidden and embedding and "word_embed_proj_dim" not in config and tensor.shape[1] != hidden[1]:
            yield f"{name}: want {hidden[1]} columns ({CONFIG}: {hidden[0]}), got {tensor.shape[1]}"
            return


def _projection_problems(tensors: Mapping[str, Tensor], config: Mapping[str, object]) -> Iterator[str]:
    """Check the model kinds whose projections follow from the number of heads alone."""
    hidden, heads = size(config, "hidden_size"), size(config, "num_attention_heads")
    if not (hidden and heads) or config.get("model_type") not in _PLAIN_HEADS or config.get("head_dim") is not None:
        return
    groups = size(config, "num_key_value_heads") or heads
    for projection, (key, count) in {"q_proj": heads, "k_proj": groups}.items():
        wanted = count * (hidden[1] // heads[1])
        for name, tensor in tensors.items():
            if name.endswith(f".self_attn.{projection}.weight") and tensor.shape[0] != wanted:
                yield f"{name}: want {wanted} rows ({CONFIG}: {key} {count}), got {tensor.shape[0]}"


def _layer_problems(tensors: Mapping[str, Tensor], config: Mapping[str, object]) -> Iterator[str]:
    layers = size(config, "num_hidden_layers")
    there = {int(match[1]) for name in tensors if (match := _LAYER.fullmatch(name))}
    if layers and there and (absent := sorted(set(range(layers[1])) - there)):
        yield f"want {layers[1]} layers of weights ({CONFIG}: {layers[0]}), there is none of layer {absent[0]}"


def _more(names: list[str]) -> str:
    return f", and {len(names) - 1} more like it" if len(names) > 1 else ""
