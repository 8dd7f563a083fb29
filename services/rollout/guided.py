"""Guided decoding: the replies that say an admissible action, as the policy would have to sample them."""

from __future__ import annotations

import unicodedata
from functools import lru_cache

from services.rollout.actors import encoded_action
from services.rollout.errors import NoAdmissibleActions, ReplyTooLong, UnsayableAction
from services.rollout.reply_format import ReplyReader
from services.rollout.tokens import CACHED_TEXTS, PolicyTokens

KEY = "guided_decoding: admissible_actions"


class GuidedReplies:
    """Actions to replies.

    Args:
        max_tokens: longest response, tokens.
    """

    def __init__(self, tokens: PolicyTokens, reader: ReplyReader, max_tokens: int) -> None:
        self._tokens, self._reader, self._max_tokens = tokens, reader, max_tokens
        self.of = lru_cache(CACHED_TEXTS)(self._of)  # states recur

    def _of(self, actions: tuple[str, ...]) -> tuple[bytes, ...]:
        """Each different reply once, int32 little-endian with its stop token, in an order of their own.

        Raises:
            NoAdmissibleActions: there are no actions.
            ReplyTooLong: one is longer than a response may be.
            UnsayableAction: the tokenizer has no words for one.
        """
        if not actions:
            raise NoAdmissibleActions(f"{KEY}: the environment names no admissible actions")
        replies = {self._said(action): action for action in actions}
        longest = max(replies, key=len)
        if len(longest) > 4 * self._max_tokens:
            raise ReplyTooLong(
                f"max_completion_length: {KEY} wants at least {len(longest) // 4} tokens, for the action "
                f"{replies[longest][:80]!r}, got {self._max_tokens}"
            )
        return tuple(sorted(replies))

    def _said(self, action: str) -> bytes:
        """The reply, which reads as the action does. Raises UnsayableAction."""
        reply = encoded_action(action, self._tokens, self._reader)
        wanted = self._reader.project(self._reader.reply(action)).action
        got = self._reader.project(self._tokens.reply_text(reply)).action
        if _letters(got) != _letters(wanted):
            raise UnsayableAction(f"{KEY}: the tokenizer cannot say the action {action[:80]!r}, it says {got[:80]!r}")
        return reply


def _letters(text: str) -> str:
    """Remove what tokenizers change on the way: white space, case, forms of one character."""
    return "".join(unicodedata.normalize("NFKC", text).casefold().split())
