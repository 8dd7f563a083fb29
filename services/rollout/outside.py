"""Keeps text from outside from forging control tokens, within one text and across neighbouring ones.

A prompt is rendered twice, as it is and with every outside text marked: a mark (a character that occurs in no text
here) is put at its ends and inside everything that reads like a control token. Control tokens that appear only in the
first rendering were forged. Then a tokenizer whose control tokens have other names encodes the prompt: the templates'
own control tokens are renamed, the marks are removed, and the forged ones stay ordinary text.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterable
from functools import lru_cache

from tokenizers import Tokenizer

from services.contracts.arrays import pack_int32

PRIVATE_USE = range(0xF0000, 0xFFFFE)
"""Code points of which no text of up to 256 KiB can hold all."""

_IN_A_WORD = re.compile(r"\w")

Quote = Callable[[str], str]
"""The filter for a text from outside on its way into a prompt."""


class OutsideGuard:
    """Encodes prompts that hold text from outside.

    Args:
        tokenizer: the policy's own.
        control: texts of the tokens that only templates may write.
    """

    def __init__(self, tokenizer: Tokenizer, control: Iterable[str]) -> None:
        self._tokenizer = tokenizer
        self._control = sorted((text for text in control if len(text) > 1), key=lambda text: (-len(text), text))
        any_of = "|".join(map(re.escape, self._control)) or r"(?!)"
        self._written = re.compile(f"({any_of})")
        self._alike = re.compile(f"(?=({any_of}))(.)", re.IGNORECASE | re.DOTALL)  # templates may change the case
        folded = {form for text in self._control for form in self._forms(text)}
        self._forged = re.compile("|".join(map(re.escape, sorted(folded))) or r"(?!)")
        added = tokenizer.get_added_tokens_decoder().values()
        self._whole_words = {token.content for token in added if token.single_word}
        """Tokens that are none inside a word."""
        self._renamed = lru_cache(1)(self._rename)  # built when the first forged token comes: it takes a second

    def encode(
        self, write: Callable[[Quote], str], encode_trusted: Callable[[str], bytes], *, ends: bool = False
    ) -> bytes:
        """The prompt's ids, int32 little-endian; those of `encode_trusted` where no text from outside forges a token.

        Args:
            write: the prompt, every text from outside passed through what it is given; called with several of them.
            ends: with the tokens that the tokenizer puts at the ends of a text, as `encode_trusted` does it.
        """
        seen: list[str] = []

        def note(text: str) -> str:
            seen.append(text)
            return text

        plain = write(note)
        mark = next(chr(code) for code in PRIVATE_USE if chr(code) not in plain)
        marked = write(lambda text: self._marked(text, mark))
        forged = self._written.findall(marked) != self._written.findall(plain)
        if not forged and not any(self._forged.search(form) for text in seen for form in self._forms(text)):
            return encode_trusted(plain)
        return self._encode_marked(marked, mark, ends=ends)

    def forges(self, text: str) -> bool:
        """Whether a text holds what reads like a control token."""
        return any(self._forged.search(form) for form in self._forms(text))

    def _forms(self, text: str) -> set[str]:
        """The text after the tokenizer's own normalizer, and after others."""
        normalizer = self._tokenizer.normalizer
        return {_folded(text)} if normalizer is None else {_folded(text), _folded(normalizer.normalize_str(text))}

    def _marked(self, text: str, mark: str) -> str:
        """White space at the ends stays outside of the marks, for templates that strip it."""
        inner = text.strip()
        if not inner:
            return text
        start = text.index(inner[0])
        broken = self._alike.sub(lambda found: found[2] + mark, inner)
        return f"{text[:start]}{mark}{broken}{mark}{text[start + len(inner) :]}"

    def _encode_marked(self, marked: str, mark: str, *, ends: bool = False) -> bytes:
        parts = [part.replace(mark, "") for part in self._written.split(marked)]
        names = self._names(mark)
        for place in range(1, len(parts), 2):
            token = parts[place]
            beside = (parts[place - 1][-1:], parts[place + 1][:1])
            if token not in self._whole_words or not any(map(_IN_A_WORD.fullmatch, beside)):
                parts[place] = names[token]
        return pack_int32(self._renamed(mark).encode("".join(parts), add_special_tokens=ends).ids)

    def _names(self, mark: str) -> dict[str, str]:
        return {text: f"{mark}{place}{mark}" for place, text in enumerate(self._control)}

    def _rename(self, mark: str) -> Tokenizer:
        names, normalizer = self._names(mark), self._tokenizer.normalizer
        document = json.loads(self._tokenizer.to_str())
        for token in document["added_tokens"]:
            if (name := names.get(token["content"])) is not None:
                kept = normalizer is None or name in normalizer.normalize_str(name)
                token |= {"content": name, "normalized": token["normalized"] and kept, "single_word": False}
        _rename_pieces(document["model"], names)
        return Tokenizer.from_str(json.dumps(document))


def _rename_pieces(model: dict[str, object], names: dict[str, str]) -> None:
    """Rename pieces of a tokenizer's own vocabulary too: some find the text of a control token there. The ids stay."""
    vocabulary = model["vocab"]
    if isinstance(vocabulary, dict):
        model["vocab"] = {names.get(piece, piece): token_id for piece, token_id in vocabulary.items()}
    elif isinstance(vocabulary, list):  # Unigram
        model["vocab"] = [[names.get(piece, piece), score] for piece, score in vocabulary]
    merges = model.get("merges")
    if isinstance(merges, list):
        model["merges"] = [pair for pair in merges if not names.keys() & {*pair, "".join(pair)}]
    unknown = model.get("unk_token")
    if isinstance(unknown, str):
        model["unk_token"] = names.get(unknown, unknown)


def _folded(text: str) -> str:
    """The text after a possible normalizer."""
    return unicodedata.normalize("NFKC", text).casefold()
