"""Numbers and times as people read them, each with its unit."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime

from services.presentation.pace import duration
from services.presentation.schema_words import kwargs_in_words

DASH = "–"
NOTHING_SERVED = -1
"""The policy version of a replica that serves none."""
_BYTES = ("B", "kB", "MB", "GB", "TB")


def number(value: float | None, digits: int = 4) -> str:
    """Whole numbers in full with separators, others with `digits` significant digits; a dash for none."""
    if value is None:
        return DASH
    if isinstance(value, int) or (abs(value) < 1e15 and value == int(value)):
        return f"{int(value):,}".replace("-", "−")
    if abs(value) >= 10**digits:
        return f"{value:,.0f}".replace("-", "−")
    return (f"{value:.{digits}g}" if abs(value) >= 1e-4 else f"{value:.1e}").replace("-", "−")


def signed(value: float | None) -> str:
    """Three significant digits with a sign: +0.25, −0.5, 0; a dash for none."""
    if value is None:
        return DASH
    text = f"{value:+.3g}".replace("-", "−")
    return "0" if text in {"+0", "−0"} else text


def brief(value: float | None) -> str:
    """As `signed`, to three decimals at most: what fits beside other figures in a narrow card."""
    return signed(None if value is None else round(value, 3))


def percent(share: float | None) -> str:
    """A share in [0, 1] as a percentage; a dash for none."""
    return DASH if share is None else f"{100 * share:.1f} %"


def size(count: int) -> str:
    """Bytes with a decimal prefix."""
    value, unit = float(count), 0
    while value >= 1000 and unit < len(_BYTES) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:.3g} {_BYTES[unit]}"


def duration_or_dash(seconds: float | None) -> str:
    """Write it as `services.presentation.pace.duration` does; a dash for none."""
    return DASH if seconds is None else duration(seconds)


def ago(unix_s: float | None, now: float | None = None) -> str:
    """How long ago something was, in its largest unit from minutes up."""
    if unix_s is None:
        return DASH
    seconds = max((time.time() if now is None else now) - unix_s, 0.0)
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length:.0f} {unit} ago"
    return "just now"


def instant(unix_s: float) -> str:
    """ISO 8601 in UTC, for `<time datetime>`."""
    return datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="seconds")


def clock(unix_s: float) -> str:
    """Day and time in UTC, as a log has it."""
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%d %H:%M:%S")


def in_words(detail: Mapping[str, object]) -> str:
    """A nested mapping as one line of its leaves; what is empty, 0 or -1 (no policy version yet) is left out."""
    found = []
    for name, value in detail.items():
        if isinstance(value, Mapping):
            found.append(in_words(value))
        elif value and value != NOTHING_SERVED:
            text = ", ".join(map(str, value)) if isinstance(value, list) else value
            found.append(f"{name.replace('_', ' ')} {number(text) if isinstance(text, int | float) else text}")
    return " · ".join(part for part in found if part != DASH) or DASH


FILTERS = {
    "kwargs_in_words": kwargs_in_words,
    "in_words": in_words,
    "number": number,
    "signed": signed,
    "brief": brief,
    "percent": percent,
    "size": size,
    "duration": duration_or_dash,
    "ago": ago,
    "instant": instant,
    "clock": clock,
}
"""The functions that templates may use, by name."""
