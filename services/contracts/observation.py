"""An observation as it travels from the environment's process to the rollout worker."""

from __future__ import annotations

import msgspec


class KeyedObservation(msgspec.Struct, frozen=True, array_like=True):
    """An observation with its keys and the digest of all of it, 16 bytes each."""

    text: str
    anchor: str
    """The text that `anchor_key` digests."""
    anchor_key: bytes
    state_key: bytes
    task: str = ""
    admissible_actions: tuple[str, ...] = ()
    """Empty: not known."""
    digest: bytes = b""
    """Empty: not known."""
