"""The retry policy: repeats, their pauses, and the sentence when a call is given up."""

from __future__ import annotations

import email.utils
import time

import httpx
import pytest

from gigpo import client
from gigpo.client.http.retries import Retries, retry_after_s, wait_or_raise

ASKED = httpx.Request("GET", "http://api:8400/v1/jobs")


def refused(status: int, retry_after: float | None = None) -> client.ApiRefused:
    return client.ApiRefused(status, "no", retry_after_s=retry_after)


@pytest.mark.parametrize(
    ("failure", "repeated", "repeated_where_twice_is_not_once"),
    [
        (httpx.ConnectError("x"), True, True),
        (httpx.ConnectTimeout("x"), True, True),
        (httpx.PoolTimeout("x"), True, True),
        (httpx.ReadError("x"), True, False),
        (httpx.ReadTimeout("x"), True, False),
        (httpx.WriteError("x"), True, False),
        (httpx.RemoteProtocolError("x"), True, False),
        (httpx.UnsupportedProtocol("x"), False, False),
        (refused(429), True, True),
        (refused(503, 1.0), True, True),
        (refused(503), True, False),
        (refused(502), True, False),
        (refused(504), True, False),
        (refused(500), False, False),
        (refused(409), False, False),
        (refused(404), False, False),
        (refused(401), False, False),
    ],
)
def test_what_may_be_repeated(
    failure: httpx.TransportError | client.ApiRefused, repeated: bool, repeated_where_twice_is_not_once: bool
) -> None:
    retries = Retries()
    assert (retries.wait_s(0, failure) is not None) == repeated
    assert (retries.wait_s(0, failure, repeatable=False) is not None) == repeated_where_twice_is_not_once


def test_waits_double_and_are_spread_by_a_quarter() -> None:
    retries = Retries(limit=9, first_wait_s=0.5, longest_wait_s=3.0)
    for attempt, shortest in ((0, 0.5), (1, 1.0), (2, 2.0)):
        waits = [retries.wait_s(attempt, httpx.ReadError("x")) or 0.0 for _ in range(200)]
        assert all(shortest <= wait <= min(3.0, shortest * 1.25) for wait in waits)
        assert max(waits) - min(waits) > shortest / 8
    assert retries.wait_s(8, httpx.ReadError("x")) == 3.0


def test_repetitions_end_at_the_limit() -> None:
    retries = Retries(limit=2)
    assert [retries.wait_s(attempt, httpx.ReadError("x")) is None for attempt in range(4)] == [False, False, True, True]


def test_the_api_s_own_wait_counts_when_it_is_the_longer_one() -> None:
    retries = Retries(first_wait_s=1.0, longest_wait_s=60.0)
    assert retries.wait_s(0, refused(429, 7.0)) == 7.0
    assert 1.0 <= (retries.wait_s(0, refused(429, 0.0)) or 0.0) <= 1.25
    assert retries.wait_s(0, refused(429, 60.0)) == 60.0
    assert retries.wait_s(0, refused(429, 60.5)) is None


def test_a_wait_is_read_as_seconds_or_as_a_date() -> None:
    assert retry_after_s({"retry-after": " 12 "}) == 12.0
    assert retry_after_s({}) is None
    assert retry_after_s({"retry-after": "soon"}) is None
    assert retry_after_s({"retry-after": email.utils.formatdate(time.time() - 100, usegmt=True)}) == 0.0
    later = retry_after_s({"retry-after": email.utils.formatdate(time.time() + 1_000_000, usegmt=True)})
    assert later == pytest.approx(1_000_000, abs=10_000)


def test_who_gives_up_says_which_api_does_not_answer() -> None:
    never = Retries(limit=0)
    for failure, words in (
        (httpx.ConnectError("refused", request=ASKED), "http://api:8400 does not answer: refused"),
        (httpx.ReadTimeout("", request=ASKED), "http://api:8400 did not answer in time: ReadTimeout"),
        (httpx.ReadError("cut"), "the API does not answer: cut"),
    ):
        with pytest.raises(client.Unreachable) as raised:
            wait_or_raise(failure, 0, never)
        assert str(raised.value) == words
        assert raised.value.__cause__ is failure
    with pytest.raises(client.ApiRefused) as refusal:
        wait_or_raise(refused(429), 0, never)
    assert refusal.value.status == 429
    assert wait_or_raise(refused(429, 2.0), 0, Retries()) == 2.0
