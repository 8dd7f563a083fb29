"""What the doctor makes of the API's health."""

from __future__ import annotations

import pytest

from gigpo.client.doctor.services import _health


@pytest.mark.parametrize(
    ("status", "checks", "words"),
    [
        ("ok", {"redis": "ok"}, "is healthy"),
        ("degraded", {}, "is degraded"),
        ("degraded", {"redis": "away", "database": "ok"}, "redis: away"),
    ],
)
def test_an_api_that_is_degraded_is_never_healthy(status: str, checks: dict[str, str], words: str) -> None:
    assert words in str(_health("http://x", status, checks))
