"""Browser sessions: a signed cookie that names a key, so that revoking the key ends its sessions.

The cookie is HttpOnly and SameSite=Lax; `origin.py` refuses what other sites send with it. It holds no secret.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile

from fastapi.responses import Response
from itsdangerous import BadSignature, URLSafeTimedSerializer
from starlette.requests import HTTPConnection

COOKIE = "gigpo_session"
LASTS_S = 12 * 3600
"""A working day; then the key is asked for again."""


class Sessions:
    """Writes and reads session cookies.

    Args:
        signing_secret: whoever knows it can make sessions.
        settings_key: the administrator's key from the settings; another one ends every session.
    """

    def __init__(self, signing_secret: bytes, settings_key: str | None) -> None:
        generation = hashlib.sha256((settings_key or "").encode()).digest()
        self._serializer = URLSafeTimedSerializer([signing_secret + generation], salt="gigpo.session")

    def begin(self, answer: Response, key_id: str | None, *, secure: bool) -> None:
        """Give the browser a session of this key. `secure`: it came over https and goes back over nothing else."""
        value = self._serializer.dumps({"key": key_id})
        answer.set_cookie(COOKIE, value, max_age=LASTS_S, httponly=True, samesite="lax", secure=secure, path="/")

    def end(self, answer: Response) -> None:
        """Take the session from the browser."""
        answer.delete_cookie(COOKIE, path="/", httponly=True, samesite="lax")

    def read(self, connection: HTTPConnection) -> tuple[bool, str | None]:
        """(there is a valid session, the id of its key; None is the key of the settings)."""
        try:
            content = self._serializer.loads(connection.cookies.get(COOKIE, ""), max_age=LASTS_S)
        except BadSignature:
            return False, None
        return True, content["key"]


def signing_secret(data_dir: Path) -> bytes:
    """The installation's secret from `data_dir/session.secret`, which only its owner can read; made when missing."""
    path = data_dir / "session.secret"
    if not path.exists():
        with NamedTemporaryFile(dir=data_dir, prefix="session-") as file:  # 0600
            file.write(secrets.token_bytes(32))
            file.flush()
            with suppress(FileExistsError):  # another process was faster: its secret counts
                os.link(file.name, path)
    secret = path.read_bytes()
    if len(secret) != 32:
        raise ValueError(f"{path}: want 32 bytes, got {len(secret)}; remove the file, then all users must log in again")
    return secret
