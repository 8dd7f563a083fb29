"""Reads the tokenizer files of a policy as transformers reads them: special and added tokens, chat template."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tokenizers import AddedToken, Tokenizer
from tokenizers.models import BPE

from services.contracts.plain_errors import kind_of, shown


class TokenizerError(ValueError):
    """A policy's tokenizer or chat template cannot be used; the message says what is wanted."""


GENERATION, MODEL = "generation_config.json", "config.json"
TOKENIZER, MAP, ADDED = "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"
_EXTRA = ("extra_special_tokens", "additional_special_tokens")
_FLAGS = ("lstrip", "rstrip", "normalized", "single_word", "special")


@dataclass(frozen=True)
class TokenizerFiles:
    """The JSON files of one folder, each read once; a file that is missing says nothing.

    What they say is read as transformers reads it.
    """

    folder: Path
    _documents: dict[str, dict[str, object]] = field(default_factory=dict)

    def document(self, file: str) -> dict[str, object]:
        """A file's content; {}: there is no such file. TokenizerError: it holds no JSON object."""
        if file not in self._documents:
            path = self.folder / file
            self._documents[file] = _object(path) if path.is_file() else {}
        return self._documents[file]

    def special(self) -> dict[str, str]:
        """Names such as `bos_token` and `image_token` -> their text."""
        said = self._said()
        extra = next((said[key] for key in _EXTRA if isinstance(said.get(key), dict)), {})
        named = {name: value for name, value in said.items() if name.endswith("_token")}
        texts = {name: _text(value) for name, value in {**named, **_mapping(extra)}.items()}
        return {name: text for name, text in texts.items() if text is not None}

    def added(self, tokenizer: Tokenizer) -> list[AddedToken]:
        """Tokens that tokenizer.json does not have as added ones, or has with other flags.

        A special token that no file gives an id is left out: no model has a row for it.
        """
        known = {token.content: token for token in tokenizer.get_added_tokens_decoder().values()}
        special, found, config = self._special_texts(), dict(known), self.document(TOKENIZER)
        if "added_tokens_decoder" in config:
            entries = _in_order(_mapping(config["added_tokens_decoder"]))
            found |= {token.content: token for token in map(self._token, entries)}
        else:
            for text in self.document(ADDED):
                found.setdefault(text, AddedToken(text, normalized=text not in special, special=text in special))
        for text in special:
            if text in found or tokenizer.token_to_id(text) is not None:
                found[text] = _as_special(found.get(text) or AddedToken(text, special=True, normalized=False))
        return [token for text, token in found.items() if text not in known or repr(token) != repr(known[text])]

    def _special_texts(self) -> list[str]:
        lists = (value for key in _EXTRA if isinstance(value := self._said().get(key), list))
        extra = [text for text in map(_text, next(lists, [])) if text is not None]
        return list(dict.fromkeys([*self.special().values(), *extra]))

    def chat_template(self) -> str | None:
        """Jinja source; None: there is none. Among several it is the default, otherwise one that refuses to render.

        Raises:
            TokenizerError: tokenizer_config.json has something else in its place.
        """
        beside = self.folder / "chat_template.jinja"
        if beside.is_file():
            return beside.read_text("utf-8")
        template = self.document(TOKENIZER).get("chat_template")
        if template is None or isinstance(template, str):
            others = {file.stem: "" for file in (self.folder / "additional_chat_templates").glob("*.jinja")}
            return template if template is not None or not others else _without_default(others)
        named = _by_name(template) if isinstance(template, list) else template
        if not isinstance(named, dict) or not named or not all(isinstance(one, str) for one in named.values()):
            wanted = "chat_template: want a text, or texts by name"
            raise TokenizerError(f"{self.folder / TOKENIZER}: {wanted}, got {shown(template)}")
        return str(named.get("default", _without_default(named)))

    def _said(self) -> dict[str, object]:
        """The configuration; what the older file of special tokens says counts before it, or where it says nothing."""
        config, older = self.document(TOKENIZER), self.document(MAP)
        return {**older, **config} if "added_tokens_decoder" in config else {**config, **older}

    def _token(self, entry: object) -> AddedToken:
        text, flags = _text(entry), _mapping(entry)
        if text is None:
            raise TokenizerError(
                f"{self.folder / TOKENIZER}: added_tokens_decoder: want tokens with content, got {entry}"
            )
        return AddedToken(text, **{flag: bool(flags[flag]) for flag in _FLAGS if flag in flags})


def _mapping(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}


def _text(token: object) -> str | None:
    """The text of a token, given as a text or with its flags; None: it is none."""
    text = token.get("content") if isinstance(token, dict) else token
    return text if isinstance(text, str) and text else None


def _in_order(entries: Mapping[str, object]) -> list[object]:
    """Sort the entries by id, the order in which they were added."""
    return [entries[key] for key in sorted(entries, key=lambda key: int(key) if key.isdecimal() else 0)]


def _as_special(token: AddedToken) -> AddedToken:
    if token.special:
        return token
    flags = {flag: getattr(token, flag) for flag in _FLAGS}
    return AddedToken(token.content, **{**flags, "special": True})


def _without_default(names: Iterable[str]) -> str:
    """A template that refuses to render: a job that uses none is not to be bothered."""
    why = f"the tokenizer has several templates and none is named default, only {', '.join(sorted(names))}"
    return "{{ raise_exception(" + json.dumps(why) + ") }}"


def _by_name(entries: list[object]) -> dict[str, object]:
    named = [_mapping(entry) for entry in entries]
    return {str(entry.get("name")): entry.get("template") for entry in named}


def _object(path: Path) -> dict[str, object]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except ValueError as error:  # the file is no JSON, or no UTF-8
        raise TokenizerError(f"{path}: want a JSON object, got {error}") from error
    if not isinstance(found, dict):
        raise TokenizerError(f"{path}: want a JSON object, got {kind_of(found)}")
    return found


def tokenizer_in(folder: Path) -> Tokenizer:
    """The folder's tokenizer with every token that its files add; it never cuts, fills up or draws tokens at random.

    Raises:
        TokenizerError: a file is missing, or cannot be read.
    """
    file = folder / "tokenizer.json"
    if not file.is_file():
        raise TokenizerError(f"want {file}, the file does not exist")
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises Exception itself
        raise TokenizerError(f"{file}: want a tokenizer of the tokenizers library, got {error}") from error
    # the file keeps what its last user had set
    tokenizer.no_truncation()
    tokenizer.no_padding()
    if isinstance(tokenizer.model, BPE):
        tokenizer.model.dropout = None  # it would cut one text into other tokens each time
    tokenizer.add_tokens(TokenizerFiles(folder).added(tokenizer))
    return tokenizer
