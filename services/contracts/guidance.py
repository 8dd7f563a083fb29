"""Guided decoding: a response that must be one of several replies, token by token.

Engines ask which tokens may come next; the trainer asks the same of a finished response, so that both see one
distribution.
"""

from __future__ import annotations

from collections.abc import Sequence


class Guide:
    """One response as it is sampled. Use once.

    Args:
        choices: token ids of each reply that it may become; the last one of each stops it.
    """

    def __init__(self, choices: Sequence[Sequence[int]]) -> None:
        self._left, self._said = choices, 0

    @property
    def allowed(self) -> tuple[int, ...]:
        """The ids that may come next, ascending; empty at the end."""
        return tuple(sorted({choice[self._said] for choice in self._left if len(choice) > self._said}))

    def take(self, token: int) -> None:
        """Go on behind a token that was said."""
        self._left = [choice for choice in self._left if len(choice) > self._said and choice[self._said] == token]
        self._said += 1


def allowed_along(choices: Sequence[Sequence[int]], response: Sequence[int]) -> tuple[tuple[int, ...], ...] | None:
    """List the ids that could have stood in place of each token of the response, ascending; None: it is none of the
    choices."""
    guide, found = Guide(choices), []
    for token in response:
        found.append(guide.allowed)
        if token not in found[-1]:
            return None
        guide.take(token)
    return tuple(found) if not guide.allowed else None
