"""A policy's tokenizer as the rollout needs it: text to ids for prompts, ids to text for the environment only.

What an engine sampled is stored as it came and never encoded again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from services.contracts.arrays import pack_int32, unpack_int32

CACHED_TEXTS = 4_096
"""States recur: most prompts of a small environment were encoded before."""


class TokenizerError(ValueError):
    """The policy's folder lacks what is needed; the message names the file."""


class PolicyTokens:
    """Tokenizer of one policy.

    Args:
        stop_ids: tokens that end a response, >= 1 of them; the first one is written after a random actor's reply.
        chat_template: Jinja source, None where the tokenizer has none.
        special: names such as `bos_token` -> their text, for the chat template.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        stop_ids: tuple[int, ...],
        *,
        chat_template: str | None = None,
        special: dict[str, str] | None = None,
    ) -> None:
        self._tokenizer = tokenizer
        self.stop_ids, self.chat_template, self.special = stop_ids, chat_template, special or {}
        self.placeholder: str | None = self.special.get("unk_token")
        """Stands for a word that is not to be seen; None: there is no such token."""
        self.encode = lru_cache(CACHED_TEXTS)(self._encode)
        self.reply_text = lru_cache(CACHED_TEXTS)(self._reply_text)

    def unknown_words(self, words: list[str]) -> list[str]:
        """Those of the words that the tokenizer does not know."""
        unknown = self._tokenizer.token_to_id(self.placeholder) if self.placeholder else None
        return [word for word in words if unknown is not None and unknown in unpack_int32(self._encode(word))]

    def encode_reply(self, text: str) -> bytes:
        """A reply as the policy would have to sample it, the stop token included: int32 little-endian [R]."""
        return self.encode(text) + pack_int32(self.stop_ids[:1])

    def _encode(self, text: str) -> bytes:
        return pack_int32(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def _reply_text(self, response_ids: bytes) -> str:
        ids = unpack_int32(response_ids)
        if ids and ids[-1] in self.stop_ids:
            ids.pop()
        text: str = self._tokenizer.decode(ids, skip_special_tokens=False)
        return text


@dataclass(frozen=True)
class _Files:
    folder: Path
    configs: dict[str, dict[str, Any]] = field(default_factory=dict)

    def setting(self, name: str, *files: str) -> Any:
        """The first of the files that has the setting decides; None: none has it."""
        for file in files:
            path = self.folder / file
            if file not in self.configs:
                self.configs[file] = json.loads(path.read_text()) if path.is_file() else {}
            if self.configs[file].get(name) is not None:
                return self.configs[file][name]
        return None


def load_tokens(folder: Path) -> PolicyTokens:
    """The tokenizer in a folder in Hugging Face format.

    Raises:
        TokenizerError: no tokenizer.json, or no end-of-sequence token is named anywhere.
    """
    if not (folder / "tokenizer.json").is_file():
        raise TokenizerError(f"want {folder}/tokenizer.json, there is none")
    files = _Files(folder)
    stop = files.setting("eos_token_id", "generation_config.json", "config.json")
    stop_ids = tuple(stop) if isinstance(stop, list) else (stop,) if stop is not None else ()
    if not stop_ids:
        raise TokenizerError(f"want eos_token_id in {folder}/generation_config.json or config.json, there is none")
    special: dict[str, str] = {}
    for name in ("bos_token", "eos_token", "unk_token", "pad_token"):
        token = files.setting(name, "tokenizer_config.json", "special_tokens_map.json")
        if token is not None:
            special[name] = token["content"] if isinstance(token, dict) else token
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    # the file keeps what its last user had set; a prompt is never to be cut or filled up here
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return PolicyTokens(tokenizer, stop_ids, chat_template=_chat_template(files), special=special)


def _chat_template(files: _Files) -> str | None:
    beside = files.folder / "chat_template.jinja"
    if beside.is_file():
        return beside.read_text()
    template: str | list[dict[str, str]] | None = files.setting("chat_template", "tokenizer_config.json")
    if isinstance(template, list):  # several named ones
        return next((entry["template"] for entry in template if entry["name"] == "default"), None)
    return template
