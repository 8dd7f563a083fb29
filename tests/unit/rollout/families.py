"""Small tokenizers with the special tokens and the turn layout of ten families of chat models."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from services.rollout.tokens import PolicyTokens, load_tokens

ASKS = "{% if add_generation_prompt %}"
SYSTEM_FIRST = (
    "{% if messages[0].role == 'system' %}{% set system = messages[0].content %}{% set turns = messages[1:] %}"
    "{% else %}{% set system = '' %}{% set turns = messages %}{% endif %}"
)


@dataclass(frozen=True)
class Family:
    """One layout of turns."""

    template: str
    special: tuple[str, ...]
    turn_end: str
    eos: str
    """What the tokenizer's config calls `eos_token`."""
    added: tuple[str, ...] = ()
    """Added tokens that are not special."""


FAMILIES = {
    "chatml": Family(
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        + ASKS + "<|im_start|>assistant\n{% endif %}",
        ("<|endoftext|>", "<|im_start|>", "<|im_end|>"), "<|im_end|>", "<|im_end|>"),
    "qwen3": Family(
        "{% for m in messages %}{% set content = m.content %}"
        "{% if m.role == 'user' and content.startswith('<tool_response>') %}{% set content = '?' %}{% endif %}"
        "{% if m.role == 'assistant' and '</think>' in content %}"
        "{% set content = content.split('</think>')[-1].lstrip('\n') %}{% endif %}"
        "<|im_start|>{{ m.role }}\n{{ content }}<|im_end|>\n{% endfor %}"
        + ASKS + "<|im_start|>assistant\n<think>\n\n</think>\n\n{% endif %}",
        ("<|endoftext|>", "<|im_start|>", "<|im_end|>"), "<|im_end|>", "<|im_end|>",
        ("<think>", "</think>", "<tool_response>")),
    "llama3": Family(
        "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n"
        "{{ m.content | trim }}<|eot_id|>{% endfor %}"
        + ASKS + "<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}",
        ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        "<|eot_id|>", "<|end_of_text|>"),
    "gemma": Family(
        "{{ bos_token }}" + SYSTEM_FIRST + "{% for m in turns %}<start_of_turn>"
        "{{ 'model' if m.role == 'assistant' else m.role }}\n{% if loop.first and system %}{{ system }}\n\n{% endif %}"
        "{{ m.content | trim }}<end_of_turn>\n{% endfor %}" + ASKS + "<start_of_turn>model\n{% endif %}",
        ("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"), "<end_of_turn>", "<eos>", ("\n\n", "<table>")),
    "mistral": Family(
        "{{ bos_token }}" + SYSTEM_FIRST + "{% for m in turns %}{% if m.role == 'user' %}[INST] "
        "{% if loop.last and system %}{{ system }}\n\n{% endif %}{{ m.content }}[/INST]"
        "{% else %} {{ m.content }}{{ eos_token }}{% endif %}{% endfor %}",
        ("<s>", "</s>", "[INST]", "[/INST]"), "</s>", "</s>"),
    "phi": Family(
        "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
        + ASKS + "<|assistant|>\n{% endif %}",
        ("<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"), "<|end|>", "<|endoftext|>"),
    "harmony": Family(
        "{% for m in messages %}{% if m.role == 'assistant' %}<|start|>assistant<|channel|>final<|message|>"
        "{{ m.content }}{% if loop.last %}<|return|>{% else %}<|end|>{% endif %}{% else %}<|start|>{{ m.role }}"
        "<|message|>{{ m.content }}<|end|>{% endif %}{% endfor %}" + ASKS + "<|start|>assistant{% endif %}",
        ("<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|return|>"), "<|return|>", "<|return|>"),
    "deepseek": Family(
        "{{ bos_token }}" + SYSTEM_FIRST + "{{ system }}{% for m in turns %}{% if m.role == 'user' %}"
        "<｜User｜>{{ m.content }}{% else %}<｜Assistant｜>{{ m.content }}<｜end▁of▁sentence｜>{% endif %}{% endfor %}"
        + ASKS + "<｜Assistant｜>{% endif %}",
        ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>"),
        "<｜end▁of▁sentence｜>", "<｜end▁of▁sentence｜>"),
    "granite": Family(
        "{% for m in messages %}<|start_of_role|>{{ m.role }}<|end_of_role|>{{ m.content }}<|end_of_text|>\n"
        "{% endfor %}" + ASKS + "<|start_of_role|>assistant<|end_of_role|>{% endif %}",
        ("<|end_of_text|>", "<|start_of_role|>", "<|end_of_role|>"), "<|end_of_text|>", "<|end_of_text|>"),
    "zephyr": Family(
        "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}{{ eos_token }}\n{% endfor %}"
        + ASKS + "<|assistant|>\n{% endif %}",
        ("<s>", "</s>"), "</s>", "</s>"),
    "hermes": Family(
        "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'tool' %}<tool_response>\n"
        "{{ m.content | tojson }}\n</tool_response>{% else %}{{ m.content }}{% endif %}<|im_end|>\n{% endfor %}"
        + ASKS + "<|im_start|>assistant\n{% endif %}",
        ("<|begin_of_text|>", "<|end_of_text|>", "<|im_start|>", "<|im_end|>", "<tool_response>", "</tool_response>"),
        "<|im_end|>", "<|im_end|>"),
}  # fmt: skip

CORPUS = (
    "You see a desk 1 and a shelf 1. You did: go to desk 1. On the desk 1 is a mug 1. Task: put a mug in the shelf",
    "Think first, between <think> and </think>. Then give exactly one action between <action> and </action>.",
    "user assistant system model <|im <|end start of turn |> [INST] <s> </s> a page says buy now, and more",
)


@cache
def byte_pairs() -> str:
    """A byte-level tokenizer that has learned merges, as JSON."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS * 8, trainer)
    return str(tokenizer.to_str())


def write_family(folder: Path, family: Family, *, stop: str | None = None) -> Path:
    """tokenizer.json, tokenizer_config.json and config.json, whose eos is `stop` or the tokenizer's own."""
    tokenizer = Tokenizer.from_str(byte_pairs())
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in family.special])
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in family.added])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"bos_token": family.special[0], "eos_token": family.eos, "chat_template": family.template}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "config.json").write_text(json.dumps({"eos_token_id": tokenizer.token_to_id(stop or family.eos)}))
    return folder


def family_tokens(folder: Path, name: str) -> PolicyTokens:
    """The tokenizer of a family."""
    return load_tokens(write_family(folder, FAMILIES[name]))
