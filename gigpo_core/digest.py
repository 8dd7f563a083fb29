"""The one definition of an anchor digest. Standard library only: environments use it without torch.

An anchor state is a text that says where the agent is. Two texts are the same anchor if and only
if their canonical forms are equal. The canonical form of a text is:

1. Unicode normalisation form C (so that an accented letter has one spelling),
2. line ends CRLF and CR written as LF,
3. white space removed from the end of the text,
4. encoded as UTF-8 (lone surrogates are kept, not refused).

The digest is BLAKE2b (RFC 7693) of those bytes, 16 bytes long, without key or salt. Two different
anchors share a digest with probability below 1e-20 for a billion distinct anchors.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from unicodedata import is_normalized, normalize

DIGEST_BYTES = 16
"""Length of an anchor digest, bytes: two int64 on the device."""


def canonical_bytes(text: str) -> bytes:
    """Return the canonical form of an anchor text, as UTF-8.

    Plain ASCII, the usual case, skips normalisation; the result is the same.

    Args:
        text: any text; lone surrogates are kept. White space alone becomes the empty text.
    """
    if not text.isascii() and not is_normalized("NFC", text):
        text = normalize("NFC", text)
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text.rstrip().encode("utf-8", "surrogatepass")


def anchor_digest(text: str) -> bytes:
    """Return the 16-byte digest of one anchor text; the empty text has one too."""
    return blake2b(canonical_bytes(text), digest_size=DIGEST_BYTES).digest()


def action_digest(action: str) -> bytes:
    """Return the 16-byte digest of one executed action: the anchor digest of its words, one blank between them.

    Two actions with one digest are one action to what compares actions. Case and spelling count.
    """
    return anchor_digest(" ".join(action.split()))


def anchor_digests(texts: Iterable[str]) -> bytes:
    """Return the digests of N texts one after the other: 16 N bytes, in the order given.

    Equal texts are digested once, which is where most of the time goes when states recur.

    Args:
        texts: N anchor texts; none at all gives no bytes.
    """
    known: dict[str, bytes] = {}
    found: list[bytes] = []
    for text in texts:
        digest = known.get(text)
        if digest is None:
            digest = known[text] = anchor_digest(text)
        found.append(digest)
    return b"".join(found)
