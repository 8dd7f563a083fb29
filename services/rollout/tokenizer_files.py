"""The tokens that end a reply, as the files of a policy's folder name them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tokenizers import Tokenizer

from services.contracts.plain_errors import shown
from services.contracts.tokenizer_files import GENERATION, MODEL, TokenizerError, TokenizerFiles
from services.rollout.templates import ChatTemplate


@dataclass(frozen=True)
class StopTokens:
    """The tokens that end a reply: every one that any of the files names."""

    ids: tuple[int, ...]
    """The one that the chat template ends a turn with comes first, where there is one."""
    disagreement: str | None
    """A sentence for the user; None: the files agree."""


def stop_tokens(files: TokenizerFiles, tokenizer: Tokenizer, chat: ChatTemplate | None) -> StopTokens:
    """Ends of a reply, by generation config, config, tokenizer and chat template; `ids` is empty where none names one.

    A fine-tuned model often keeps the base's config while its tokenizer or template names the token that really ends a
    turn, so each of them counts.

    Raises:
        TokenizerError: a file names something else than ids.
    """
    config, text_config = files.document(MODEL), files.document(MODEL).get("text_config")
    nested = text_config if isinstance(text_config, dict) else {}
    eos, turn_end = files.special().get("eos_token"), _turn_end(tokenizer, chat)
    said = {
        GENERATION: _named(GENERATION, files.document(GENERATION)),
        MODEL: _named(MODEL, config),
        f"text_config of {MODEL}": _named(f"{MODEL}: text_config", nested),
        "the tokenizer's eos_token": _ids(tokenizer.token_to_id(eos) if eos else None),
        "the end of a turn in the chat template": _ids(turn_end),
    }
    ids = dict.fromkeys([*_ids(turn_end), *(token for tokens in said.values() for token in tokens)])
    return StopTokens(tuple(ids), _disagreement(said, tokenizer))


def _named(place: str, document: Mapping[str, object]) -> tuple[int, ...]:
    named = document.get("eos_token_id")
    every = named if isinstance(named, list) else [named] if named is not None else []
    if not all(isinstance(one, int) and not isinstance(one, bool) for one in every):
        raise TokenizerError(f"{place}: eos_token_id: want a token id or a list of them, got {shown(named)}")
    return _ids(named)


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
