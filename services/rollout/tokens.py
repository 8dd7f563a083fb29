"""A policy's tokenizer: text to ids for prompts, ids to text for the environment only.

Sampled tokens are stored as the engine returned them and never encoded again.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from functools import lru_cache, partial
from pathlib import Path

from jinja2 import TemplateError
from tokenizers import Tokenizer

from services.contracts.arrays import pack_int32, unpack_int32
from services.rollout.errors import TokenizerError
from services.rollout.outside import OutsideGuard, Quote
from services.rollout.templates import ChatOptions, ChatTemplate
from services.rollout.tokenizer_files import TokenizerFiles, stop_tokens

CACHED_TEXTS = 4_096
"""States recur: most prompts of a small environment were encoded before."""


class PolicyTokens:
    """Tokenizer of one policy.

    Args:
        stop_ids: tokens that end a response, >= 1 of them; the first one is written after a random actor's reply.
        chat_template: Jinja source, None where the tokenizer has none.
        special: names such as `bos_token` -> their text, for the chat template.
        warning: what the user should know of the files.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        stop_ids: tuple[int, ...],
        *,
        chat_template: str | None = None,
        special: dict[str, str] | None = None,
        warning: str | None = None,
    ) -> None:
        self._tokenizer, self.warning = tokenizer, warning
        self.stop_ids, self.chat_template, self.special = stop_ids, chat_template, special or {}
        self.placeholder: str | None = self.special.get("unk_token")
        """Stands for a word that is not to be seen; None: there is no such token."""
        self._guard = OutsideGuard(tokenizer, _control_tokens(tokenizer, self.special, chat_template))
        self.encode = lru_cache(CACHED_TEXTS)(self._encode)
        self.reply_text = lru_cache(CACHED_TEXTS)(self._reply_text)

    @property
    def stop_texts(self) -> tuple[str, ...]:
        """The stop tokens as text."""
        return tuple(text for token_id in self.stop_ids if (text := self._tokenizer.id_to_token(token_id)))

    def largest_ordinary_id(self) -> int:
        """The largest id that a text from outside can become: special tokens are never among them."""
        special = {token_id for token_id, one in self._tokenizer.get_added_tokens_decoder().items() if one.special}
        return max(set(self._tokenizer.get_vocab().values()) - special, default=0)

    def unknown_words(self, words: list[str]) -> list[str]:
        """Those of the words that the tokenizer does not know."""
        unknown = self._tokenizer.token_to_id(self.placeholder) if self.placeholder else None
        return [word for word in words if unknown is not None and unknown in unpack_int32(self._encode(word))]

    def encode_quoting(self, write: Callable[[Quote], str], *, ends: bool = False) -> bytes:
        """A prompt in which every text that `write` passes through its argument stays text: int32 little-endian [P].

        What reads like a control token there is encoded as the letters that it is made of.

        Args:
            ends: with the tokens that the tokenizer puts at the ends of a text (BOS); a chat template writes its own.
        """
        return self._guard.encode(write, partial(self.encode, ends=ends), ends=ends)

    def encode_reply(self, text: str, frame: Callable[[str], str] = str) -> bytes:
        """A reply as the policy would have to sample it, the stop token included: int32 little-endian [R].

        Args:
            text: from outside.
            frame: what is written around it.
        """
        return self.encode_quoting(lambda quote: frame(quote(text))) + pack_int32(self.stop_ids[:1])

    def prompt_text(self, prompt_ids: bytes) -> str:
        """A prompt as people read it, special tokens included."""
        text: str = self._tokenizer.decode(unpack_int32(prompt_ids), skip_special_tokens=False)
        return text

    def _encode(self, text: str, *, ends: bool = False) -> bytes:
        return pack_int32(self._tokenizer.encode(text, add_special_tokens=ends).ids)

    def _reply_text(self, response_ids: bytes) -> str:
        ids = unpack_int32(response_ids)
        if ids and ids[-1] in self.stop_ids:
            ids.pop()
        text: str = self._tokenizer.decode(ids, skip_special_tokens=False)
        return text


def _control_tokens(tokenizer: Tokenizer, special: dict[str, str], chat_template: str | None) -> set[str]:
    """Special tokens, and those other added tokens that the chat template writes (<think>, <tool_call>).

    Further added tokens are words and white space that people and tokenizers added to the vocabulary.
    """
    written, named = chat_template or "", special.values()
    added = tokenizer.get_added_tokens_decoder().values()
    return {
        token.content
        for token in added
        if token.special or token.content in named or (token.content.strip() and token.content in written)
    }


def load_tokens(folder: Path) -> PolicyTokens:
    """The tokenizer in a folder in Hugging Face format.

    Raises:
        TokenizerError: no tokenizer.json, a file that cannot be read, or no end-of-sequence token named anywhere.
    """
    if not (folder / "tokenizer.json").is_file():
        raise TokenizerError(f"want {folder}/tokenizer.json, the file does not exist")
    files = TokenizerFiles(folder)
    tokenizer = _tokenizer(folder / "tokenizer.json")
    # the file keeps what its last user had set; a prompt is never to be cut or filled up here
    tokenizer.no_truncation()
    tokenizer.no_padding()
    special, template = files.special(), files.chat_template()
    tokenizer.add_tokens(files.added(tokenizer))
    stop = stop_tokens(files, tokenizer, _chat(template, special))
    if not stop.ids:
        raise TokenizerError(
            f"want eos_token_id in {folder}/generation_config.json or config.json, or eos_token in "
            "tokenizer_config.json, found none"
        )
    return PolicyTokens(tokenizer, stop.ids, chat_template=template, special=special, warning=stop.disagreement)


def _tokenizer(file: Path) -> Tokenizer:
    try:
        return Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises Exception itself
        raise TokenizerError(f"{file}: want a tokenizer of the tokenizers library, got {error}") from error


def _chat(template: str | None, special: dict[str, str]) -> ChatTemplate | None:
    """None: there is no template, or it is broken, which is told where it is used."""
    try:
        return ChatTemplate(template, special, ChatOptions(today=date.min)) if template is not None else None
    except TemplateError:
        return None
