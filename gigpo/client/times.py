"""Parses and formats times for people."""

from __future__ import annotations

import re
import time
from datetime import datetime

from gigpo.client.errors import BadInput

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def clock(at_unix_s: float) -> str:
    """Local date and time to the second."""
    return time.strftime("%F %T", time.localtime(at_unix_s))


def unix_s(option: str, text: str | None) -> float | None:
    """Unix seconds of `2h` (ago), `2026-11-25` or `2026-11-25T08:00`, None for None; BadInput names the option."""
    if text is None:
        return None
    if (seconds := duration_s(text)) is not None:
        return time.time() - seconds
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise BadInput(f"{option}: want a time such as 2h, 3d or 2026-11-25T08:00, got {text!r}") from None


def duration_s(text: str) -> float | None:
    """Seconds of `90s`, `15m`, `2h`, `3d`, `4w`; None: it is no duration."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", text)
    return float(found.group(1)) * _UNITS_S[found.group(2)] if found else None
