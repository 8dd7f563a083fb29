"""A policy's folder without weights: a word tokenizer and the configs that name its stop token."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

from services.rollout.tokens import PolicyTokens, load_tokens

PAD, EOS, UNK = "<pad>", "<eos>", "<unk>"


def write_policy_folder(
    folder: Path,
    words: Iterable[str],
    *,
    chat_template: str | None = None,
    stop: int | list[int] = 1,
    special: Iterable[str] = (),
) -> Path:
    """tokenizer.json, tokenizer_config.json and config.json in `folder`; `special` are those of the words that are
    special tokens."""
    vocabulary = {word: i for i, word in enumerate([PAD, EOS, UNK, *dict.fromkeys(words)])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNK))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in (PAD, EOS, UNK, *special)])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"unk_token": UNK, "eos_token": {"content": EOS}, "pad_token": PAD}
    if chat_template is not None:
        config["chat_template"] = chat_template
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "config.json").write_text(json.dumps({"eos_token_id": stop}))
    return folder


def word_tokens(
    folder: Path, words: Iterable[str], *, chat_template: str | None = None, special: Iterable[str] = ()
) -> PolicyTokens:
    """The tokenizer of such a folder."""
    return load_tokens(write_policy_folder(folder, words, chat_template=chat_template, special=special))
