"""The tokens that could have been sampled at each place of a response, where not all of them could.

Guided decoding: a response must be one of several replies. Engines ask which tokens may come next; the trainer asks
the same of a finished response, so that both see one distribution.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from services.contracts.arrays import pack_int32, unpack_int32


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


def pack_allowed(ids: Sequence[Sequence[int]]) -> bytes:
    """For each of R tokens the ids that it could have been, as int32 little-endian: R numbers of ids, then the ids."""
    return pack_int32(chain(map(len, ids), chain.from_iterable(ids)))


def unpack_allowed(packed: bytes, tokens: int) -> list[list[int]]:
    """The ids of each of so many tokens. Raises ValueError: it holds more or fewer of them."""
    numbers = unpack_int32(packed)
    counts, ids = numbers[:tokens], numbers[tokens:]
    if len(counts) != tokens or min(counts, default=1) < 1 or sum(counts) != len(ids):
        raise ValueError(f"want the ids of {tokens} tokens, at least one of each, got {len(numbers)} numbers")
    rest = iter(ids)
    return [[next(rest) for _ in range(count)] for count in counts]
