"""The retry policy: which calls are retried, after how long and how often. No other module decides this."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

import httpx

from gigpo.client.errors import ApiRefused, Unreachable

_UNSENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
"""The API never saw the request."""
_PASSING = frozenset({502, 503, 504})


@dataclass(frozen=True)
class Retries:
    """How a call is repeated when the connection breaks or the API asks for patience.

    Args:
        limit: repetitions after the first attempt; all waits together are about 6 s by default, longer than a restart
            of the API takes (5 s).
        first_wait_s: doubles with each attempt; up to a quarter of it is added at random, so that clients spread.
        longest_wait_s: a `Retry-After` beyond it is not waited for; the refusal says how long it is.
    """

    limit: int = 5
    first_wait_s: float = 0.2
    longest_wait_s: float = 60.0

    def wait_s(
        self, attempt: int, failure: httpx.TransportError | ApiRefused, *, repeatable: bool = True
    ) -> float | None:
        """Seconds until the next attempt after `attempt` (from 0); None: it is not repeated."""
        if attempt >= self.limit or not _may_repeat(failure, repeatable):
            return None
        backoff: float = min(self.first_wait_s * 2**attempt * random.uniform(1.0, 1.25), self.longest_wait_s)
        asked = failure.retry_after_s if isinstance(failure, ApiRefused) else None
        if asked is None:
            return backoff
        return max(asked, backoff) if asked <= self.longest_wait_s else None


def wait_or_raise(
    failure: httpx.TransportError | ApiRefused, attempt: int, retries: Retries, *, repeatable: bool = True
) -> float:
    """Seconds until the next attempt. Raises the refusal, or Unreachable, when there is to be none."""
    wait_s = retries.wait_s(attempt, failure, repeatable=repeatable)
    if wait_s is not None:
        return wait_s
    if isinstance(failure, ApiRefused):
        raise failure
    raise _unreachable(failure) from failure


def _unreachable(error: httpx.TransportError) -> Unreachable:
    """One sentence for a connection that broke or was not made."""
    try:
        url = f"{error.request.url.scheme}://{error.request.url.netloc.decode()}"
    except RuntimeError:  # httpx's word for an error without a request
        url = "the API"
    kind = "did not answer in time" if isinstance(error, httpx.TimeoutException) else "does not answer"
    return Unreachable(f"{url} {kind}: {str(error) or type(error).__name__}")


def _may_repeat(failure: httpx.TransportError | ApiRefused, repeatable: bool) -> bool:
    if isinstance(failure, ApiRefused):
        refused_unread = failure.status == 429 or (failure.status == 503 and failure.retry_after_s is not None)
        return refused_unread or (repeatable and failure.status in _PASSING)
    if isinstance(failure, httpx.UnsupportedProtocol):
        return False
    return repeatable or isinstance(failure, _UNSENT)


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds in a `Retry-After` header, which may hold a date; None: the header is missing or unreadable."""
    text = headers.get("retry-after", "").strip()
    if text.isdecimal():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return None
