"""A new small policy: a Qwen2 with random weights and a word tokenizer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedModel, Qwen2Config, Qwen2ForCausalLM

from services.contracts.job import ScratchModel
from services.trainer.learner.errors import VocabularyError
from services.trainer.learner.files import whole_folder, write_text
from services.trainer.learner.weights import save_weights

PAD, EOS, UNKNOWN = "<pad>", "<eos>", "<unk>"
SPECIAL = (PAD, EOS, UNKNOWN)
"""The first tokens of the vocabulary, so their ids are 0, 1, 2."""


CHAT = ("<user>", "<assistant>", "<tool>", "<system>", "<tools>", "<tool_call>", "</tool_call>")
"""Further special tokens of a tokenizer with a chat template."""
CHAT_TEMPLATE = (
    "{% if tools %}<tools>{% for tool in tools %} {{ tool.function.name }}{% endfor %} {% endif %}"
    "{% for message in messages %}{% if message.role == 'assistant' %}<assistant> {{ message.content }}"
    "{% for call in message.tool_calls or [] %}<tool_call> "
    "{{ {'name': call.function.name, 'arguments': call.function.arguments} | tojson }} </tool_call>"
    "{% endfor %} <eos> {% else %}<{{ message.role }}> {{ message.content }} {% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
"""Turns and calls in the least words; the schemas of tools are left out."""


def build_scratch(spec: ScratchModel, vocabulary: Sequence[str], seed: int, folder: Path) -> None:
    """Write a small Qwen2 with random weights and a word tokenizer, complete or not at all.

    The tokenizer splits at white space, knows `<pad>` 0, `<eos>` 1, `<unk>` 2, then the tokens of its chat template if
    it has one, then the sorted words, and joins with single spaces; the model has exactly as many embeddings. Same
    arguments and same libraries -> same bytes.

    Args:
        vocabulary: every word a prompt (the template's words too) or an action can hold, in any order.
        folder: is made; one that already holds the same files is not touched, any other is replaced.

    Raises:
        VocabularyError: no words, or one that is empty or holds white space.
    """
    special = (*SPECIAL, *CHAT) if spec.scratch_chat else SPECIAL
    words = _words(vocabulary, special)
    with whole_folder(folder) as unfinished:
        for name, document in {
            "config.json": {**_config(spec, len(words)).to_diff_dict(), "architectures": ["Qwen2ForCausalLM"]},
            "generation_config.json": {"eos_token_id": words.index(EOS), "pad_token_id": words.index(PAD)},
            "tokenizer.json": json.loads(_tokenizer(words, special).to_str()),
            "tokenizer_config.json": _tokenizer_config(spec),
        }.items():
            write_text(unfinished / name, json.dumps(document, indent=2, ensure_ascii=False) + "\n")
        save_weights(_random_model(_config(spec, len(words)), seed), unfinished)


def _words(vocabulary: Sequence[str], special: Sequence[str]) -> list[str]:
    words = sorted(set(vocabulary) - set(special))
    if not words:
        raise VocabularyError("vocabulary: want the words of the environment, got none")
    broken = [word for word in words if word.split() != [word]]
    if broken:
        raise VocabularyError(f"vocabulary: want words without white space, got {broken[0]!r}")
    return [*special, *words]


def _config(spec: ScratchModel, vocab_size: int) -> Qwen2Config:
    return Qwen2Config(
        vocab_size=vocab_size,
        hidden_size=spec.hidden_size,
        intermediate_size=spec.intermediate_size,
        num_hidden_layers=spec.num_hidden_layers,
        num_attention_heads=spec.num_attention_heads,
        num_key_value_heads=spec.num_attention_heads,
        max_position_embeddings=spec.max_position_embeddings,
        initializer_range=spec.initializer_range,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=SPECIAL.index(EOS),
        pad_token_id=SPECIAL.index(PAD),
        dtype="float32",
    )


def _random_model(config: Qwen2Config, seed: int) -> PreTrainedModel:
    build: Any = Qwen2ForCausalLM  # untyped upstream
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model: PreTrainedModel = build(config)
    return model


def _tokenizer(words: list[str], special: Sequence[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    # Without a decoder `tokenizers` joins with single spaces.
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    return tokenizer


def _tokenizer_config(spec: ScratchModel) -> dict[str, object]:
    return {
        # transformers 5 answers `AutoTokenizer` for model type qwen2 with its byte-level Qwen2Tokenizer whatever class
        # stands here, and would silently cut the words to pieces. An entry in `auto_map` switches that rule off; as no
        # code is trusted, `tokenizer_class` then decides. The entry itself is never loaded and names nothing.
        "auto_map": {"AutoTokenizer": ["no_code.WordTokenizer", None]},
        **({"chat_template": CHAT_TEMPLATE} if spec.scratch_chat else {}),
        "clean_up_tokenization_spaces": False,
        "eos_token": EOS,
        "model_max_length": spec.max_position_embeddings,
        "pad_token": PAD,
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": UNKNOWN,
    }
