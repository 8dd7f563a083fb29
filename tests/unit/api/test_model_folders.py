"""A sound folder of a model passes; each folder that is off by one thing is refused in its own sentence."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save
from tokenizers import AddedToken, Tokenizer, models

from services.api.jobs.checks import folder_problems, policy_fit
from services.api.jobs.hub import HubModel
from services.api.policies import numbers
from services.api.policies.config import config_problems
from services.api.policies.numbers import not_finite
from services.api.policies.values import ACTIVATIONS
from services.contracts.environment import EnvironmentInfo
from services.contracts.job import JobSpec, parse_spec
from services.contracts.model_kinds import NO_POLICIES, TRAINABLE
from tests.model_folders import TEMPLATE, TOKENIZER_CONFIG, VOCABULARY, tensors, tokenizer, write_model

Break = Callable[[Path], None]
GRID = EnvironmentInfo(id="grid")


def spec(folder: Path, **sections: Mapping[str, object]) -> JobSpec:
    environment = {"history_length": 2, **sections.get("environment", {})}
    rollout = {"max_completion_length": 64}
    return parse_spec({"model": {"model": str(folder)}, **sections, "environment": environment, "rollout": rollout})


def sentences(job: JobSpec, folder: Path) -> tuple[list[str], list[str]]:
    """Problems and warnings, as a submission finds them."""
    if found := folder_problems(job, folder.parent / "data", None):
        return [sentence for _, sentence in found], []
    problems, warnings = policy_fit(job, GRID, None, None)
    return [sentence for _, sentence in problems], warnings


def config(**changes: object) -> Break:
    return document("config.json", changes)


def tokenizer_config(**changes: object) -> Break:
    return document("tokenizer_config.json", changes)


def document(file: str, changes: Mapping[str, object]) -> Break:
    """Change keys of a JSON file; None takes a key away."""

    def change(folder: Path) -> None:
        merged = json.loads((folder / file).read_bytes()) | changes
        (folder / file).write_text(json.dumps({key: value for key, value in merged.items() if value is not None}))

    return change


def written(file: str, content: str | bytes) -> Break:
    data = content.encode() if isinstance(content, str) else content
    return lambda folder: (folder / file).write_bytes(data) and None


def gone(*files: str) -> Break:
    return lambda folder: [(folder / file).unlink() for file in files] and None


def both(*breaks: Break) -> Break:
    return lambda folder: [one(folder) for one in breaks] and None


def weights(change: Callable[[dict[str, Any]], object]) -> Break:
    def save_changed(folder: Path) -> None:
        changed: dict[str, Any] = dict(tensors())
        change(changed)
        (folder / "model.safetensors").write_bytes(save(changed))

    return save_changed


def sharded(*left_out: str, index: Mapping[str, object] | None = None) -> Break:
    """Two shards with an index, of which some files are left out."""

    def shard(folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        names = sorted(tensors())
        halves = {"model-1.safetensors": names[:9], "model-2.safetensors": names[9:]}
        for file, held in halves.items():
            (folder / file).write_bytes(save({name: tensors()[name] for name in held}))
        placed: Mapping[str, object] = {name: file for file, held in halves.items() for name in held}
        (folder / "model.safetensors.index.json").write_text(
            json.dumps({"metadata": {}, "weight_map": {**placed, **(index or {})}})
        )
        for file in left_out:
            (folder / file).unlink()

    return shard


def header(change: Callable[[dict[str, Any]], object]) -> Break:
    """Change the header of the weights and leave the bytes behind it."""

    def rewrite(folder: Path) -> None:
        file = folder / "model.safetensors"
        data = file.read_bytes()
        (length,) = struct.unpack("<Q", data[:8])
        entries = json.loads(data[8 : 8 + length])
        change(entries)
        changed = json.dumps(entries).encode()
        file.write_bytes(struct.pack("<Q", len(changed)) + changed + data[8 + length :])

    return rewrite


def larger_tokenizer(folder: Path, *, special: bool, written_by_template: bool = False) -> None:
    made = tokenizer()
    extra = AddedToken("<extra>", special=special, normalized=False)
    (made.add_special_tokens if special else made.add_tokens)([extra])
    (folder / "tokenizer.json").write_text(made.to_str())
    if written_by_template:
        document("tokenizer_config.json", {"chat_template": "<extra>" + TEMPLATE})(folder)


def spoilt(name: str, kind: str, odd: str) -> Callable[[dict[str, Any]], object]:
    """One number of the tensor, saved in this format, is NaN or infinity."""

    def spoil(held: dict[str, Any]) -> None:
        held[name] = held[name].astype(kind)
        held[name].flat[-1] = float(odd)

    return spoil


def wider(name: str, tensor: np.ndarray) -> np.ndarray:
    """A tensor of attention as 5 heads of 8 want it; any other as it is."""
    if "self_attn" not in name:
        return tensor
    return np.ones((32, 40) if "o_proj" in name else (40, 32), np.float32)


def deeper(folder: Path) -> None:
    """Everything lies in a folder below."""
    files = list(folder.iterdir())
    (folder / "model").mkdir()
    for file in files:
        file.rename(folder / "model" / file.name)


LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 4000000\n"
NORM = "model.norm.weight"
EMBEDDING = "model.embed_tokens.weight"
BROKEN: dict[str, tuple[Break, str]] = {
    "no config": (gone("config.json"), "it lacks config.json"),
    "no tokenizer": (gone("tokenizer.json"), "it lacks tokenizer.json"),
    "no tokenizer config": (gone("tokenizer_config.json"), "it lacks tokenizer_config.json"),
    "no weights": (gone("model.safetensors"), r"it lacks \*\.safetensors"),
    "pickled weights": (
        both(gone("model.safetensors"), written("pytorch_model.bin", b"\x80")),
        r"lacks \*\.safetensors; pickled weights are never read, save them as safetensors",
    ),
    "adapter": (
        both(gone("config.json", "model.safetensors"), written("adapter_config.json", "{}")),
        r"lacks config.json, \*\.safetensors; it is an adapter, merge it into its base model",
    ),
    "sentencepiece alone": (
        both(gone("tokenizer.json"), written("tokenizer.model", b"\n")),
        "lacks tokenizer.json; a SentencePiece tokenizer alone, save it with transformers as a fast one",
    ),
    "dangling link": (
        both(gone("model.safetensors"), lambda folder: (folder / "model.safetensors").symlink_to("blobs/gone")),
        r"it lacks \*\.safetensors",
    ),
    "config is no JSON": (written("config.json", "{"), "^config.json: want a JSON object, got Expecting property"),
    "config is a list": (written("config.json", "[]"), "^config.json: want a JSON object, got a list$"),
    "config is a pointer": (written("config.json", LFS), "^config.json: want a JSON object, got Expecting value"),
    "no kind": (config(model_type=None), "^config.json: model_type: want the kind of model, .*, there is none$"),
    "encoder": (config(model_type="bert"), "^config.json: model_type: want a decoder .*, got 'bert'$"),
    "translator": (config(is_encoder_decoder=True), "model_type: want a decoder .*, got 'llama'$"),
    "unknown kind": (
        config(model_type="lama"),
        "^config.json: model_type: want a causal language model .*, got 'lama'; did you mean llama",
    ),
    "own code": (
        config(model_type="internlm9", auto_map={"AutoModelForCausalLM": "modeling.X"}),
        r"got 'internlm9'; its own code \(auto_map\) is never run here$",
    ),
    "classifier": (
        config(architectures=["LlamaForSequenceClassification"]),
        "^config.json: architectures: want a model with a head .*, got 'LlamaForSequenceClassification'$",
    ),
    "quantised config": (
        config(quantization_config={"quant_method": "gptq"}),
        "^config.json: quantization_config: want weights in float32, .*, got 'gptq'$",
    ),
    "size is a text": (config(hidden_size="32"), "^config.json: hidden_size: want a whole number > 0, got '32'$"),
    "no layers": (config(num_hidden_layers=0), "^config.json: num_hidden_layers: want a whole number > 0, got 0$"),
    "heads": (
        config(num_attention_heads=5, num_key_value_heads=5),
        r"self_attn.q_proj.weight: want 30 rows \(config.json: num_attention_heads 5\), got 32$",
    ),
    "groups": (
        config(num_key_value_heads=3),
        "^config.json: num_key_value_heads: want a divisor of num_attention_heads 4, got 3$",
    ),
    "heads for keys": (
        config(num_key_value_heads=4),
        r"self_attn.k_proj.weight: want 32 rows \(config.json: num_key_value_heads 4\), got 16$",
    ),
    "positions": (
        config(max_position_embeddings=100),
        r"^config.json: max_position_embeddings: want at least 192 \(max_prompt_tokens 128 and max_completion_length "
        r"64\), got 100$",
    ),
    "vocabulary of another model": (
        config(vocab_size=600),
        rf"^(lm_head.weight|{EMBEDDING}): want 600 rows \(config.json: vocab_size\), got {VOCABULARY}$",
    ),
    "width of another model": (
        config(hidden_size=64),
        rf"^{EMBEDDING}: want 64 columns \(config.json: hidden_size\), got 32$",
    ),
    "too few layers": (
        config(num_hidden_layers=3),
        r"^want 3 layers of weights \(config.json: num_hidden_layers\), there is none of layer 2$",
    ),
    "shard is missing": (
        sharded("model-2.safetensors"),
        "^model.safetensors.index.json: weight_map: want 2 files, model-2.safetensors is missing$",
    ),
    "index is missing": (
        both(sharded("model.safetensors.index.json")),
        "^want model.safetensors or model.safetensors.index.json, got model-1.safetensors, model-2.safetensors$",
    ),
    "index names what no shard holds": (
        sharded(index={"model.layers.9.w": "model-1.safetensors"}),
        "^model.safetensors.index.json: weight_map: no file holds model.layers.9.w$",
    ),
    "index leads out": (
        sharded(index={NORM: "../other.safetensors"}),
        f"weight_map: {NORM}: want a safetensors file beside it, got '../other.safetensors'$",
    ),
    "index without a map": (
        both(sharded(), written("model.safetensors.index.json", "{}")),
        "^model.safetensors.index.json: weight_map: want the file of every tensor, got null$",
    ),
    "index without metadata": (
        both(sharded(), document("model.safetensors.index.json", {"metadata": None})),
        "^model.safetensors.index.json: metadata: want an object such as {}, without which it does not load, got none$",
    ),
    "one tensor in two files": (
        both(sharded(), written("model-1.safetensors", save(dict(tensors())))),
        "want this tensor in one file, got it in model-1.safetensors and model-2.safetensors$",
    ),
    "index beside whole weights": (
        both(sharded(), weights(lambda one: one)),
        "^model.safetensors.index.json: want it without model.safetensors beside it, got both",
    ),
    "pointer": (
        written("model.safetensors", LFS),
        "^model.safetensors: want a safetensors file, got a Git LFS pointer of 70 bytes; `git lfs pull` fetches",
    ),
    "empty weights": (written("model.safetensors", b""), "^model.safetensors: .*, got a file of 0 bytes$"),
    "cut weights": (
        lambda folder: written("model.safetensors", (folder / "model.safetensors").read_bytes()[:-100])(folder),
        r"^model.safetensors: want \d+ bytes of tensors, as its header says, got \d+$",
    ),
    "cut header": (
        lambda folder: written("model.safetensors", (folder / "model.safetensors").read_bytes()[:100])(folder),
        r"^model.safetensors: want a safetensors file with a header of \d+ bytes, got a file of 100 bytes$",
    ),
    "another format": (
        written("model.safetensors", b"PK\x03\x04" + bytes(200)),
        r"^model.safetensors: .* header of \d+ bytes, got a file of 204 bytes$",
    ),
    "header is no JSON": (
        written("model.safetensors", struct.pack("<Q", 2) + b"[["),
        "^model.safetensors: want a safetensors file, got a header that is no JSON$",
    ),
    "header without a shape": (
        header(lambda entries: entries[NORM].pop("shape")),
        f"^model.safetensors: {NORM}: want dtype, shape and data_offsets, got ",
    ),
    "shape of other bytes": (
        header(lambda entries: entries[NORM].update(shape=[33])),
        rf"^model.safetensors: {NORM}: want 132 bytes \(F32, shape \[33\]\), got 128$",
    ),
    "no tensors": (weights(lambda held: held.clear()), "^want tensors in the safetensors files, got none$"),
    "quantised weights": (
        weights(lambda held: held.update({NORM: np.ones(32, np.int8)})),
        rf"^{NORM}: want float32, float16 or bfloat16 \(quantised weights cannot be trained\), got I8$",
    ),
    "adapter beside the model": (
        written("adapter_config.json", "{}"),
        "^adapter_config.json: want a whole model, got an adapter; merge it into the model and remove this file$",
    ),
    "quantised somehow": (
        config(quantization_config={}),
        "^config.json: quantization_config: want weights in float32, float16 or bfloat16, got null$",
    ),
    **{
        f"{odd} in {kind}": (
            weights(spoilt(NORM, kind, odd)),
            f"^model.safetensors: {NORM}: want finite numbers, got NaN",
        )
        for kind in ("float16", "float32", "float64")
        for odd in ("nan", "inf", "-inf")
    },
    **{
        f"{file} alone": (
            both(gone("model.safetensors"), written(file, b"x")),
            r"lacks \*\.safetensors; other weights than safetensors are not read, save the model with transformers$",
        )
        for file in ("tf_model.h5", "flax_model.msgpack", "model.onnx", "weights.npz")
    },
    "GGUF alone": (
        both(gone("config.json", "model.safetensors"), written("model.gguf", b"GGUF")),
        r"lacks config.json, \*\.safetensors; a GGUF file is not read, save the model with transformers",
    ),
    **{
        f"{file} alone": (
            both(gone("tokenizer.json"), written(file, b"{}")),
            rf"lacks tokenizer.json; {file} is not read, save the tokenizer with transformers as a fast one$",
        )
        for file in ("vocab.json", "spiece.model", "tekken.json")
    },
    "a folder too high": (
        lambda folder: deeper(folder),
        r"lacks config.json, tokenizer.json, tokenizer_config.json, \*\.safetensors; a folder below it holds one$",
    ),
    "section is a text": (config(text_config="x"), "^config.json: text_config: want a section of keys, got 'x'$"),
    "padding outside": (
        config(pad_token_id=600),
        f"^config.json: pad_token_id: want a token id below vocab_size {VOCABULARY}, got 600$",
    ),
    "rotation is a text": (
        config(rope_scaling="linear"),
        "^config.json: rope_scaling: want a section .*, got 'linear'$",
    ),
    "rotation of no kind": (
        config(rope_parameters={"full_attention": {"rope_type": "spiral"}}),
        "^config.json: rope_parameters.full_attention: rope_type: want one of default, .*, got 'spiral'$",
    ),
    "factor is a text": (
        config(rope_scaling={"type": "linear", "factor": "2"}),
        "^config.json: rope_scaling: factor: want a number > 0, got '2'$",
    ),
    **{
        f"no {name}": (
            weights(lambda held, name=name: held.pop(name)),
            rf"^{name}: want this tensor \(config.json: model_type llama\), there is none$",
        )
        for name in (NORM, EMBEDDING, "lm_head.weight", "model.layers.1.mlp.up_proj.weight")
    },
    "names of a wrapper": (
        weights(lambda held: [held.update({f"_orig_mod.{name}": held.pop(name)}) for name in list(held)]),
        f"^{EMBEDDING}: want this tensor .*, there is none, and 20 more are missing$",
    ),
    "another kind": (
        config(model_type="qwen2", architectures=["Qwen2ForCausalLM"]),
        r"^model.layers.0.self_attn.q_proj.bias: want this tensor \(config.json: model_type qwen2\), there is none",
    ),
    "width inside": (
        config(intermediate_size=64),
        r"^model.layers.0.mlp.gate_proj.weight: want shape \[64, 32\], as config.json has it, got \[48, 32\]$",
    ),
    "flat embedding": (
        weights(lambda held: held.update({EMBEDDING: np.ones(VOCABULARY, np.float32)})),
        rf"^{EMBEDDING}: want shape \[{VOCABULARY}, 32\], as config.json has it, got \[{VOCABULARY}\]$",
    ),
    "end is a text": (
        config(eos_token_id="511"),
        "^config.json: eos_token_id: want a token id or a list of them, got '511'$",
    ),
    "ends are lists": (
        written("generation_config.json", '{"eos_token_id": [[511]]}'),
        r"^generation_config.json: eos_token_id: want a token id or a list of them, got \[\[511\]\]$",
    ),
    **{
        f"{key} {value!r}": (
            config(**{key: value}),
            rf"^config.json: {key}: want {wanted}, got {re.escape(json.dumps(value)).replace(chr(34), chr(39))}",
        )
        for key, value, wanted in (
            ("rms_norm_eps", "1e-6", "a number"),
            ("rms_norm_eps", [1e-6], "a number"),
            ("rms_norm_eps", -1.0, "a number"),
            ("attention_dropout", "0.1", "a number"),
            ("partial_rotary_factor", "0.5", "a number"),
            ("rope_theta", "10000", "a number > 0"),
            ("rope_theta", 0, "a number > 0"),
            ("rope_theta", -10000.0, "a number > 0"),
            ("logits_scaling", 0.0, "a number > 0"),
            ("final_logit_softcapping", 0.0, "a number > 0"),
            ("final_logit_softcapping", "30", "a number > 0"),
            ("hidden_act", 3, "an activation that transformers knows"),
            ("tie_word_embeddings", "false", "true or false"),
            ("attention_bias", 1, "true or false"),
            ("use_cache", "no", "true or false"),
            ("initializer_range", "x", "a number"),
            ("pad_token_id", "0", "a token id or null"),
            ("pad_token_id", [0], "a token id or null"),
            ("bos_token_id", "x", "a token id or null"),
            ("hidden_size", [32], "a whole number > 0"),
            ("sliding_window", "8", "a whole number > 0 or null"),
            ("sliding_window", 0, "a whole number > 0 or null"),
            ("num_experts_per_tok", "2", "a whole number >= 0"),
            ("num_local_experts", [4], "a whole number >= 0"),
            ("layer_types", "full_attention", r"a list of 2 kinds \(num_hidden_layers\)"),
            ("num_hidden_layers", [2], "a whole number > 0"),
            ("num_attention_heads", [4, 4], "a whole number > 0"),
        )
    },
    "activation misspelt": (
        config(hidden_act="sillu"),
        "^config.json: hidden_act: want an activation that transformers knows, got 'sillu'; did you mean silu",
    ),
    **{
        f"rotation {kind} without {name}": (
            config(rope_scaling={"rope_type": kind, **({"factor": 8.0} if kind == "llama3" else {})}),
            f"^config.json: rope_scaling: {name}: want it for rope_type {kind}, there is none$",
        )
        for kind, name in (
            ("linear", "factor"),
            ("dynamic", "factor"),
            ("yarn", "factor"),
            ("llama3", "low_freq_factor"),
            ("longrope", "short_factor"),
        )
    },
    **{
        f"rotation by {factor}": (
            config(rope_scaling={"rope_type": "linear", "factor": factor}),
            f"^config.json: rope_scaling: factor: want a number > 0, got {factor}$",
        )
        for factor in (0, -2.0)
    },
    **{
        f"rotation {kind} of another model": (
            config(rope_scaling={"rope_type": kind, "factor": 2.0}),
            f"^config.json: rope_scaling: rope_type: want one of .*, got '{kind}'$",
        )
        for kind in ("su", "mrope")
    },
    "too few factors": (
        config(rope_scaling={"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [1.0]}),
        "^config.json: rope_scaling: long_factor: want a list of 4 numbers, half of a head's, got 1 of them$",
    ),
    "kinds of layers for another depth": (
        config(layer_types=["full_attention"] * 3),
        r"^config.json: layer_types: want a list of 2 kinds \(num_hidden_layers\), got 3 of them$",
    ),
    "more experts chosen than there are": (
        config(num_local_experts=4, num_experts_per_tok=9),
        "^config.json: num_experts_per_tok: want at most num_local_experts 4, got 9$",
    ),
    "class of another kind": (
        config(architectures=["Qwen2ForCausalLM"]),
        r"^config.json: architectures: want LlamaForCausalLM \(model_type llama\), got 'Qwen2ForCausalLM'$",
    ),
    "biases of attention": (
        config(attention_bias=True),
        "^model.layers.0.self_attn.q_proj.bias: want this tensor .*, there is none, and 7 more are missing$",
    ),
    "biases that the config leaves out": (
        weights(lambda held: held.update({f"model.layers.{i}.self_attn.q_proj.bias": np.ones(32) for i in range(2)})),
        r"^model.layers.0.self_attn.q_proj.bias: want no such tensor .*model_type llama\), got it, and 1 more$",
    ),
    "norms of heads that the kind has not": (
        weights(lambda held: held.update({"model.layers.1.self_attn.q_norm.weight": np.ones(8)})),
        r"^model.layers.1.self_attn.q_norm.weight: want no such tensor \(config.json: model_type llama\), got it$",
    ),
    "an adapter inside the weights": (
        weights(lambda held: held.update({"model.layers.0.mlp.up_proj.lora_A.weight": np.ones((4, 32))})),
        "^model.layers.0.mlp.up_proj.lora_A.weight: want no such tensor",
    ),
    "biases inside": (
        config(mlp_bias=True),
        "^model.layers.0.mlp.gate_proj.bias: want this tensor .*, there is none, and 5 more are missing$",
    ),
    "no words": (
        written("tokenizer.json", Tokenizer(models.BPE()).to_str()),
        "^tokenizer.json: want a tokenizer that encodes text, it makes 0 tokens of a letter$",
    ),
    "tokenizer is no JSON": (written("tokenizer.json", "{"), "^tokenizer.json: want a tokenizer of the tokenizers"),
    "tokenizer config is a list": (
        written("tokenizer_config.json", "[]"),
        "^tokenizer_config.json: want a JSON object, got a list$",
    ),
    "template is no Jinja": (
        tokenizer_config(chat_template="{% for m in messages %}"),
        "^the tokenizer's chat template, line 1: Unexpected end of template",
    ),
    "template calls what is not offered": (
        tokenizer_config(chat_template="{{ tomorrow() }}" + TEMPLATE),
        "^the tokenizer's chat template: 'tomorrow' is undefined$",
    ),
    "template fails": (
        tokenizer_config(chat_template="{{ messages + 1 }}" + TEMPLATE),
        "^the tokenizer's chat template: can only concatenate list",
    ),
    "template loses the prompt": (
        tokenizer_config(chat_template="<|im_start|>assistant\n"),
        "^the tokenizer's chat template omits the message's text",
    ),
    "template in bytes of another code": (written("chat_template.jinja", b"\xff\xfe"), "want files that can be read"),
    "no end": (
        both(config(eos_token_id=None), tokenizer_config(eos_token=None, chat_template=None)),
        "^want eos_token_id in generation_config.json or config.json, or eos_token in tokenizer_config.json, found",
    ),
    "end outside": (
        config(eos_token_id=100_000),
        rf"^tokenizer.json: want a stop token below {VOCABULARY} \(rows of the model's embedding\), got 100000$",
    ),
    "tokenizer is larger": (
        lambda folder: larger_tokenizer(folder, special=False),
        rf"^tokenizer.json: want token ids below {VOCABULARY} \(rows of the model's embedding\), got {VOCABULARY}$",
    ),
    "template writes a token outside": (
        lambda folder: larger_tokenizer(folder, special=True, written_by_template=True),
        rf"^tokenizer.json: want a token of the prompt below {VOCABULARY} .*, got {VOCABULARY}$",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_folder_that_is_off_by_one_thing_is_refused_in_one_sentence(tmp_path: Path, case: str) -> None:
    spoil, words = BROKEN[case]
    folder = write_model(tmp_path / "model")
    assert sentences(spec(folder), folder) == ([], [])
    spoil(folder)
    (said,), _ = sentences(spec(folder), folder)
    assert re.search(words, said), said
    assert str(folder) not in said or said.startswith(f"{folder} is not a model in Hugging Face format, it lacks")


SOUND: dict[str, Break] = {
    "as it is": both(),
    "values that are switched off": config(
        rms_norm_eps=0, pad_token_id=-1, final_logit_softcapping=None, attention_dropout=0, hidden_act="swish"
    ),
    "a window that is not used": config(sliding_window=0, use_sliding_window=False),
    "no experts": config(num_local_experts=0, num_experts_per_tok=0),
    "factors of a long rotation": config(
        rope_scaling={"type": "longrope", "short_factor": [1.0] * 4, "long_factor": [2.0] * 4}
    ),
    "biases of attention that are there": both(
        config(attention_bias=True),
        weights(
            lambda held: held.update(
                {
                    name.replace("weight", "bias"): np.ones(len(tensor), np.float32)
                    for name, tensor in held.items()
                    if "self_attn" in name
                }
            )
        ),
    ),
    "shards": sharded(),
    "a special token outside that nothing writes": lambda folder: larger_tokenizer(folder, special=True),
    "positions that are stretched": config(
        max_position_embeddings=64, rope_scaling={"rope_type": "linear", "factor": 4.0}
    ),
    "no positions named": config(max_position_embeddings=None),
    "a buffer of whole numbers": weights(lambda held: held.update({"model.positions": np.arange(9)})),
    "layers that are not loaded": config(num_hidden_layers=1),
    "tables of older versions": weights(
        lambda held: held.update({"model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(4, np.float32)})
    ),
    "other weights beside": written("consolidated.safetensors", b"of another format"),
    "a template beside": both(
        tokenizer_config(chat_template=None), written("chat_template.jinja", str(TOKENIZER_CONFIG["chat_template"]))
    ),
    "tied head that is not there": both(
        config(tie_word_embeddings=True), weights(lambda held: held.pop("lm_head.weight"))
    ),
    "names of the body alone": weights(
        lambda held: [held.update({name.removeprefix("model."): held.pop(name)}) for name in list(held)]
    ),
    "ends in a list": both(
        config(eos_token_id=[VOCABULARY - 1]),
        written("generation_config.json", json.dumps({"eos_token_id": [VOCABULARY - 1]})),
    ),
    "no template": tokenizer_config(chat_template=None),
    "head_dim of its own": both(
        config(num_attention_heads=5, num_key_value_heads=5, head_dim=8),
        weights(lambda held: held.update({name: wider(name, tensor) for name, tensor in held.items()})),
    ),
    "a kind whose heads are its own": config(model_type="glm4_moe", num_attention_heads=5, num_key_value_heads=5),
}


@pytest.mark.parametrize("case", SOUND)
def test_what_transformers_would_load_is_taken(tmp_path: Path, case: str) -> None:
    folder = write_model(tmp_path / "model")
    SOUND[case](folder)
    assert sentences(spec(folder), folder) == ([], [])


def test_the_sound_folder_is_one_for_the_trainer(tmp_path: Path) -> None:
    from services.trainer.learner.policy import load_policy

    assert load_policy(write_model(tmp_path / "model")).config.model_type == "llama"


def test_a_template_that_refuses_the_jobs_system_message_is_said(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    refusing = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + TEMPLATE
    tokenizer_config(chat_template=refusing)(folder)
    assert sentences(spec(folder), folder) == ([], [])
    told, _ = sentences(spec(folder, environment={"system": "Be brief."}), folder)
    way_out = "; system_role: user puts it into the user's turn"
    assert told == [f"system: the tokenizer's chat template: no system{way_out}"]


def test_a_budget_that_the_templates_alone_exceed_is_said(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    ((field, said),), _ = policy_fit(spec(folder, environment={"max_prompt_tokens": 16}), GRID, None, None)
    assert field == "environment.max_prompt_tokens"
    assert re.fullmatch(r"want at least \d+ for the task and plain/v1 think alone, got 16", said)


def test_files_that_disagree_about_the_end_of_a_reply_are_a_warning(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    config(eos_token_id=VOCABULARY - 3)(folder)
    problems, (said,) = sentences(spec(folder), folder)
    assert problems == []
    assert "disagree about the token that ends a reply" in said


def test_a_checkpoint_must_be_long_enough_for_the_job_too(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    config(max_position_embeddings=100)(folder)
    job = parse_spec({"model": {"model": "job:j1/final"}, "rollout": {"max_completion_length": 64}})
    files = {path.name: path for path in folder.iterdir()}
    ((field, said),), _ = policy_fit(job, GRID, files, None)
    assert (field, said.partition(" (")[0]) == (
        "model.model",
        "config.json: max_position_embeddings: want at least 192",
    )


def test_a_checkpoint_s_templates_must_write_what_the_job_says(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    document = {"model": {"model": "job:j1/final"}, "rollout": {"max_completion_length": 64}}
    files = {path.name: path for path in folder.iterdir()}
    assert policy_fit(parse_spec(document), GRID, files, None) == ([], [])
    thinking = parse_spec({**document, "environment": {"chat_template_kwargs": {"enable_thinking": False}}})
    (problem,), _ = policy_fit(thinking, GRID, files, None)
    assert problem == (
        "model.model",
        "chat_template_kwargs: want values that the tokenizer's chat template reads, got enable_thinking",
    )


def test_a_model_on_the_hub_is_read_like_a_folder(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    described = json.loads((folder / "config.json").read_bytes())

    def problems(**files: str) -> list[str]:
        texts = {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".safetensors"}
        given = {**texts, **{name.replace("__", "."): text.encode() for name, text in files.items()}}
        found, _ = policy_fit(spec(folder), GRID, None, HubModel("Any/Model", "0", 1, described, given))
        return [sentence for _, sentence in found]

    assert problems() == []
    assert problems(chat_template__jinja="{{ messages + 1 }}")[0].startswith("the tokenizer's chat template: can only")
    assert problems(tokenizer__json="{")[0].startswith("tokenizer.json: want a tokenizer of the tokenizers library")


def test_brain_floats_and_masks(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"

    def save_halves(name: str, *values: int) -> None:
        data = struct.pack(f"<{len(values)}H", *values)
        entry = {"dtype": "BF16", "shape": [len(values)], "data_offsets": [0, len(data)]}
        top = json.dumps({name: entry}).encode()
        file.write_bytes(struct.pack("<Q", len(top)) + top + data)

    for odd in (0x7FC0, 0xFFC0, 0x7F80, 0xFF80):  # NaN, -NaN, infinity, -infinity
        save_halves("layer.weight", 0x3F80, odd)
        assert not_finite([file]) == [
            "model.safetensors: layer.weight: want finite numbers, got NaN, infinity or numbers above 1.7e38"
        ]
    save_halves("layer.weight", 0x3F80, 0x7E00, 0xFE00, 0x007F, 0x00FF)
    assert not_finite([file]) == []
    save_halves("attention.mask", 0xFF80)
    assert not_finite([file]) == []


def test_of_a_large_model_every_tensor_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numbers, "BLOCK_BYTES", 64)
    monkeypatch.setattr(numbers, "LOOKED_AT_BYTES", 4_096)
    file = tmp_path / "model.safetensors"
    for spoilt_one in range(20):
        held = {f"layer.{one}.weight": np.ones(1_000, np.float32) for one in range(20)}
        held[f"layer.{spoilt_one}.weight"][:] = np.nan
        file.write_bytes(save(held))
        assert f"layer.{spoilt_one}.weight" in numbers.not_finite([file])[0]


def test_activations_are_those_of_the_installed_transformers() -> None:
    from transformers.activations import ACT2CLS

    assert {*ACT2CLS} == ACTIVATIONS


def test_the_kinds_are_those_of_the_installed_transformers() -> None:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as installed

    assert {*installed} == TRAINABLE | NO_POLICIES
    assert not TRAINABLE & NO_POLICIES


@pytest.mark.parametrize("kind", sorted(TRAINABLE))
def test_the_config_that_transformers_writes_for_a_trainable_kind_is_taken(kind: str) -> None:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as classes

    written = json.loads(CONFIG_MAPPING[kind]().to_json_string(use_diff=False))
    assert config_problems({**written, "architectures": [classes[kind]]}) == []
