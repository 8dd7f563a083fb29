"""Reads the tokenizer files of a policy's folder: special tokens, chat template, tokens that end a reply."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tokenizers import Tokenizer

from services.rollout.errors import TokenizerError
from services.rollout.templates import ChatTemplate

GENERATION, MODEL = "generation_config.json", "config.json"
TOKENIZER = ("tokenizer_config.json", "special_tokens_map.json")
SPECIAL_NAMES = ("bos_token", "eos_token", "unk_token", "pad_token")


@dataclass(frozen=True)
class TokenizerFiles:
    """The JSON files of one folder, each read once; a file that is missing says nothing."""

    folder: Path
    _documents: dict[str, dict[str, object]] = field(default_factory=dict)

    def document(self, file: str) -> dict[str, object]:
        """A file's content; {}: there is no such file. TokenizerError: it holds no JSON object."""
        if file not in self._documents:
            path = self.folder / file
            self._documents[file] = _object(path) if path.is_file() else {}
        return self._documents[file]

    def special(self) -> dict[str, str]:
        """Names such as `bos_token` -> their text; the first of the tokenizer's files that has a name decides."""
        found: dict[str, str] = {}
        for name in SPECIAL_NAMES:
            tokens = (self.document(file).get(name) for file in TOKENIZER)
            token = next((token for token in tokens if token is not None), None)
            text = token.get("content") if isinstance(token, dict) else token
            if isinstance(text, str):
                found[name] = text
        return found

    def chat_template(self) -> str | None:
        """Jinja source; None: there is none."""
        beside = self.folder / "chat_template.jinja"
        if beside.is_file():
            return beside.read_text("utf-8")
        template = self.document(TOKENIZER[0]).get("chat_template")
        if isinstance(template, list):  # several named ones
            template = next((entry["template"] for entry in template if entry["name"] == "default"), None)
        return template if isinstance(template, str) else None


def _object(path: Path) -> dict[str, object]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except ValueError as error:  # no JSON, or no UTF-8
        raise TokenizerError(f"{path}: want a JSON object, got {error}") from error
    if not isinstance(found, dict):
        raise TokenizerError(f"{path}: want a JSON object, got {type(found).__name__}")
    return found


@dataclass(frozen=True)
class StopTokens:
    """The tokens that end a reply: every one that any of the files names."""

    ids: tuple[int, ...]
    """The one that the chat template ends a turn with comes first, where there is one."""
    disagreement: str | None
    """A sentence for the user; None: the files agree."""


def stop_tokens(files: TokenizerFiles, tokenizer: Tokenizer, chat: ChatTemplate | None) -> StopTokens:
    """What ends a reply, of generation config, config, tokenizer and chat template; `ids` is empty where none says it.

    A fine-tuned model often keeps the base's config while its tokenizer or template names the token that really ends a
    turn, so each of them counts.
    """
    config, text_config = files.document(MODEL), files.document(MODEL).get("text_config")
    nested = text_config if isinstance(text_config, dict) else {}
    eos, turn_end = files.special().get("eos_token"), _turn_end(tokenizer, chat)
    said = {
        GENERATION: _ids(files.document(GENERATION).get("eos_token_id")),
        MODEL: _ids(config.get("eos_token_id")),
        f"text_config of {MODEL}": _ids(nested.get("eos_token_id")),
        "the tokenizer's eos_token": _ids(tokenizer.token_to_id(eos) if eos else None),
        "the end of a turn in the chat template": _ids(turn_end),
    }
    ids = dict.fromkeys([*_ids(turn_end), *(token for tokens in said.values() for token in tokens)])
    return StopTokens(tuple(ids), _disagreement(said, tokenizer))


def _ids(named: object) -> tuple[int, ...]:
    found = named if isinstance(named, list) else [named]
    return tuple(token for token in found if isinstance(token, int) and token >= 0)


def _turn_end(tokenizer: Tokenizer, chat: ChatTemplate | None) -> int | None:
    """The token that the chat template writes right behind what the assistant said; None: it writes none."""
    behind = chat.behind_a_reply() if chat is not None else ""
    added = {token.content: token_id for token_id, token in tokenizer.get_added_tokens_decoder().items()}
    found = [content for content in added if content.strip() and behind.startswith(content)]
    return added[max(found, key=len)] if found else None


def _disagreement(said: dict[str, tuple[int, ...]], tokenizer: Tokenizer) -> str | None:
    named = {place: tokens for place, tokens in said.items() if tokens}
    first: Sequence[int] = next(iter(named.values()), ())
    if all(token in first for tokens in named.values() for token in tokens):
        return None
    places = (
        f"{place} says " + ", ".join(f"{tokenizer.id_to_token(token)} ({token})" for token in tokens)
        for place, tokens in named.items()
    )
    return f"the model's files disagree about the token that ends a reply: {'; '.join(places)}. Each of them ends one."
