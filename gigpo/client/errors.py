"""The client's exceptions, each with an exit code for the command line.

GigpoError
    BadInput            the caller's input is invalid
    Unreachable         no API answers
        NoStack         no stack runs in this folder
    ApiRefused          the API answered with a problem
        Unauthorized    401, no valid key
        Forbidden       403, the key may not do this
        NotFound        404
        Conflict        409, the state does not allow it, or an Idempotency-Key was used for another request
        Invalid         400, 413, 422: the request is wrong; `errors` names the fields
        RateLimited     429
        ServerFailed    5xx
    BadAnswer           the answer is not one of this API
    BrokenDownload      a downloaded file differs from the one that the API announced
"""

from __future__ import annotations

from collections.abc import Sequence

OK, FAILED, BAD_INPUT, NO_API, INTERRUPTED = 0, 1, 2, 3, 130


class GigpoError(Exception):
    """Base of all; the message is one sentence for the user."""

    exit_code = FAILED


class BadInput(GigpoError):
    """Wrong input of the caller: flags, a file, a spec."""

    exit_code = BAD_INPUT


class Unreachable(GigpoError):
    """The address answers no call, however often it is repeated."""

    exit_code = NO_API


class NoStack(Unreachable):
    """The folder has no running stack, or its stack does not start."""


class BadAnswer(GigpoError):
    """The answer is not of this API, or of another version of it."""

    exit_code = NO_API


class BrokenDownload(GigpoError):
    """A file did not arrive as it was promised; nothing is left at its place."""


class ApiRefused(GigpoError):
    """The API answered with a problem (RFC 9457).

    Attributes:
        status: HTTP status.
        errors: (field, message) pairs.
        retry_after_s: when the API says that it may be asked again; None: it does not say.
    """

    exit_code = BAD_INPUT

    def __init__(
        self, status: int, detail: str, errors: Sequence[tuple[str, str]] = (), retry_after_s: float | None = None
    ) -> None:
        super().__init__(detail)
        self.status, self.errors, self.retry_after_s = status, list(errors), retry_after_s


class Unauthorized(ApiRefused):
    """401: there is no key, or not a valid one."""


class Forbidden(ApiRefused):
    """403: the key's scopes, or its project's quota, don't allow it."""


class NotFound(ApiRefused):
    """404: there is no such thing, or not in the key's project."""


class Conflict(ApiRefused):
    """409: the state doesn't allow it, or an Idempotency-Key was used with another body."""


class Invalid(ApiRefused):
    """400, 413, 415 or 422: `errors` names each field with what came and what is wanted."""


class RateLimited(ApiRefused):
    """429, and waiting did not help."""


class ServerFailed(ApiRefused):
    """5xx: the API's log says why."""

    exit_code = NO_API


_BY_STATUS: dict[int, type[ApiRefused]] = {
    400: Invalid, 401: Unauthorized, 403: Forbidden, 404: NotFound, 409: Conflict, 413: Invalid, 415: Invalid,
    422: Invalid, 429: RateLimited,
}  # fmt: skip


def refusal_class(status: int) -> type[ApiRefused]:
    """The class of an HTTP status."""
    return _BY_STATUS.get(status, ServerFailed if status >= 500 else ApiRefused)
