"""The form of an API key, `gigpo_<id>_<secret>`, and its hash at rest.

The id may be shown and tells keys apart; the secret has 192 random bits. argon2 protects it if the database is stolen;
with so many bits, a cost at the lower end of OWASP's advice (19 MiB, two passes) is enough.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerifyMismatchError

_FORM = re.compile(r"gigpo_([0-9a-f]{12})_([0-9a-f]{48})")
_HASHER = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)


@dataclass(frozen=True)
class NewKey:
    """A key at the only moment at which it is whole."""

    id: str
    token: str
    secret_hash: str


def new_key() -> NewKey:
    """A new key, not shown yet."""
    key_id, secret = secrets.token_hex(6), secrets.token_hex(24)
    return NewKey(key_id, f"gigpo_{key_id}_{secret}", _HASHER.hash(secret))


def parse_key(token: str) -> tuple[str, str] | None:
    """(id, secret); None: this has not the form of a key."""
    found = _FORM.fullmatch(token)
    return (found[1], found[2]) if found else None


def secret_matches(secret_hash: str | None, secret: str) -> bool:
    """Whether the secret belongs to the hash; takes as long where there is no hash. About 30 ms of CPU."""
    try:
        return _HASHER.verify(secret_hash or _NOBODY, secret) and secret_hash is not None
    except (VerifyMismatchError, InvalidHashError):
        return False


_NOBODY = _HASHER.hash(secrets.token_hex(24))
