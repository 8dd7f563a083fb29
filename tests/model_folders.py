"""A small model with random weights in Hugging Face format, whole and sound, for tests that break one thing of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
from safetensors.numpy import save
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from services.contracts.templates import template_files

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
VOCABULARY, HIDDEN, INNER, LAYERS = 512, 32, 48, 2
CONFIG: Mapping[str, object] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": VOCABULARY,
    "hidden_size": HIDDEN,
    "intermediate_size": INNER,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "bos_token_id": VOCABULARY - 3,
    "eos_token_id": VOCABULARY - 1,
    "tie_word_embeddings": False,
}
TOKENIZER_CONFIG: Mapping[str, object] = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "eos_token": "<|im_end|>",
    "chat_template": TEMPLATE,
}


def write_model(folder: Path) -> Path:
    """The folder, with config, tokenizer and weights of a Llama of 50,000 numbers in it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "tokenizer_config.json").write_text(json.dumps(TOKENIZER_CONFIG))
    (folder / "tokenizer.json").write_text(tokenizer().to_str())
    (folder / "model.safetensors").write_bytes(save(dict(tensors())))
    return folder


def tokenizer() -> Tokenizer:
    """Make a tokenizer of bytes and the words of the platform's own prompts, with the tokens of the chat template
    behind them."""
    return Tokenizer.from_str(_tokenizer())


@cache
def _tokenizer() -> str:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    size, alphabet = VOCABULARY - len(SPECIAL), pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator([text for _, text in sorted(template_files().items())] * 4, trainer)
    made.add_special_tokens([AddedToken(one, special=True, normalized=False) for one in SPECIAL])
    return made.to_str()


@cache
def tensors() -> Mapping[str, np.ndarray]:
    """Name -> random numbers, as LlamaForCausalLM wants them for CONFIG."""
    layer = {
        "self_attn.q_proj.weight": (HIDDEN, HIDDEN),
        "self_attn.k_proj.weight": (HIDDEN // 2, HIDDEN),
        "self_attn.v_proj.weight": (HIDDEN // 2, HIDDEN),
        "self_attn.o_proj.weight": (HIDDEN, HIDDEN),
        "mlp.gate_proj.weight": (INNER, HIDDEN),
        "mlp.up_proj.weight": (INNER, HIDDEN),
        "mlp.down_proj.weight": (HIDDEN, INNER),
        "input_layernorm.weight": (HIDDEN,),
        "post_attention_layernorm.weight": (HIDDEN,),
    }
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (VOCABULARY, HIDDEN),
        "model.norm.weight": (HIDDEN,),
        "lm_head.weight": (VOCABULARY, HIDDEN),
    }
    shapes |= {f"model.layers.{i}.{name}": shape for i in range(LAYERS) for name, shape in layer.items()}
    random = np.random.default_rng(0)
    return {name: random.normal(0, 0.02, shape).astype(np.float32) for name, shape in shapes.items()}
