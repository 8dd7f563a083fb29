"""Decides as early as possible whether two texts are similar, by the Ratcliff-Obershelp ratio.

The measure is that of `difflib.SequenceMatcher(None, a, b, autojunk=False).ratio()`: 2 M / T, where T
is the length of both texts and M the characters of their matching blocks: the longest common
substring (the first in a, then the first in b), and the same again left and right of it
(Ratcliff and Metzener, Dr. Dobb's Journal, July 1988). It is not symmetric in a and b.
Deciding `ratio >= threshold` needs M only up to a bound, which is what makes this fast.
"""

from __future__ import annotations

import math

_STRIDE = 24
"""Characters between two looks whether the subsequence bound can still be reached."""


def needed_matches(length: int, threshold: float) -> int:
    """Return the smallest M for which 2 M / length >= threshold, as floating-point numbers compare.

    Args:
        length: T, characters of both texts together; 0 needs 0 matches (two empty texts are equal).
        threshold: in (0, 1).
    """
    if length == 0:
        return 0
    need = max(math.ceil(threshold * length / 2) - 1, 0)
    while 2.0 * need / length < threshold:
        need += 1
    return need


def character_masks(text: str) -> dict[str, int]:
    """Return for each character of a text the bit set of its positions."""
    masks: dict[str, int] = {}
    for position, character in enumerate(text):
        masks[character] = masks.get(character, 0) | (1 << position)
    return masks


def unmatched_characters(a: str, masks: dict[str, int], length: int) -> int:
    """Return how many characters of a and b are outside their longest common subsequence.

    That is the fewest insertions and deletions that turn one into the other, a metric: for any third
    text c, the distance of a and b is at least that of b and c less that of a and c.

    Args:
        a: the first text.
        masks: `character_masks` of b.
        length: characters of b.
    """
    unmatched = full = (1 << length) - 1
    for mask in map(masks.get, a):
        if mask:
            hit = unmatched & mask
            unmatched = (unmatched + hit) | (unmatched - hit)
    return len(a) - length + 2 * (unmatched & full).bit_count()


def may_match(a: str, masks: dict[str, int], length: int, need: int) -> bool:
    """Return False only if a and b share no subsequence of `need` characters, so that M < need.

    Matching blocks are a common subsequence, so M is at most the length of the longest one. It is
    computed for all positions of b at once, bit-parallel (Hyyro, "Bit-parallel LCS-length
    computation revisited", 2004), and given up as soon as the rest of a cannot make up what is missing.

    Args:
        a: the first text.
        masks: `character_masks` of b.
        length: characters of b.
        need: matches wanted.
    """
    spare_a, spare_b = len(a) - need, length - need  # characters that may stay unmatched
    if spare_a < 0 or spare_b < 0:
        return False
    unmatched = (1 << length) - 1
    for start in range(0, len(a), _STRIDE):
        for mask in map(masks.get, a[start : start + _STRIDE]):
            if mask:
                hit = unmatched & mask
                unmatched = (unmatched + hit) | (unmatched - hit)
        seen = min(start + _STRIDE, len(a))
        # Position i of a can only match positions i - spare_a .. i + spare_b of b: beyond, too much stays
        # unmatched. Low bits do not depend on higher ones, so prefixes of b are counted on the way.
        reach = min(seen + spare_b, length)
        if seen - (reach - (unmatched & ((1 << reach) - 1)).bit_count()) > spare_a:
            return False
        if seen > spare_a and (unmatched & ((1 << (seen - spare_a)) - 1)).bit_count() > spare_b:
            return False
    return True


def reaches(a: str, b: str, need: int) -> bool:
    """Return whether the matching blocks of a and b hold at least `need` characters.

    Stops when enough are found, or when even complete matches of all that is left would not do.

    Args:
        a, b: the texts; which is first matters, as for difflib.
        need: characters.
    """
    matched, open_matches = 0, min(len(a), len(b))
    pending = [(0, len(a), 0, len(b))]
    while pending and matched < need:
        if matched + open_matches < need:
            return False
        low_a, high_a, low_b, high_b = pending.pop()
        open_matches -= min(high_a - low_a, high_b - low_b)
        at_a, at_b, size = longest_match(a, b, low_a, high_a, low_b, high_b)
        if size == 0:
            continue
        matched += size
        for part in ((low_a, at_a, low_b, at_b), (at_a + size, high_a, at_b + size, high_b)):
            room = min(part[1] - part[0], part[3] - part[2])
            if room > 0:
                open_matches += room
                pending.append(part)
    return matched >= need


def longest_match(a: str, b: str, low_a: int, high_a: int, low_b: int, high_b: int) -> tuple[int, int, int]:
    """Return (start in a, start in b, length) of the longest common substring of two slices.

    The one that starts first in a, then first in b, counts among equals; (low_a, low_b, 0) if there is none.

    Args:
        a, b: the texts.
        low_a, high_a: the slice a[low_a:high_a] to look at.
        low_b, high_b: the same of b.
    """
    best_a, best_b, best = low_a, low_b, 0
    start = low_a
    while start + best < high_a:
        found = b.find(a[start : start + best + 1], low_b, high_b)
        if found < 0:
            start += 1
            continue
        # Longer than the best so far: as long as it goes here, then look for a still longer one elsewhere in b.
        best_a, best_b, best = start, found, best + 1
        while start + best < high_a and found + best < high_b and a[start + best] == b[found + best]:
            best += 1
    return best_a, best_b, best
