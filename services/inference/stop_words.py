"""Texts that end a response of the transformers engine; vLLM looks for them itself."""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import Tokenizer

MARGIN = 8
"""Further tokens that are decoded, as some add nothing to the text."""


class StopWords:
    """Looks for texts at the end of a response.

    Args:
        words: at least one, none empty.
    """

    def __init__(self, tokenizer: Tokenizer, words: Sequence[str]) -> None:
        self._tokenizer, self._words = tokenizer, words
        self._tokens = max(len(word.encode()) for word in words) + MARGIN  # a token is at least one byte

    def complete(self, response: Sequence[int]) -> bool:
        """Whether the newest tokens hold one of the texts; asked behind each token, the first one is found."""
        text: str = self._tokenizer.decode(list(response[-self._tokens :]), skip_special_tokens=False)
        return any(word in text for word in self._words)
