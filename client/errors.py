"""What can go wrong, each with the exit code of the command line."""

from __future__ import annotations

OK, JOB_FAILED, BAD_INPUT, NO_STACK, INTERRUPTED = 0, 1, 2, 3, 130


class GigpoError(Exception):
    """Base of all; the message is one sentence for the user."""

    exit_code = JOB_FAILED


class BadInput(GigpoError):
    """What the user gave cannot be done: flags, a file, a spec."""

    exit_code = BAD_INPUT


class NoStack(GigpoError):
    """No API answers."""

    exit_code = NO_STACK


class ApiRefused(GigpoError):
    """The API answered with a problem (RFC 9457).

    Attributes:
        status: HTTP status.
        errors: (field, message) pairs.
    """

    def __init__(self, status: int, detail: str, errors: list[tuple[str, str]]) -> None:
        super().__init__(detail)
        self.status, self.errors = status, errors

    @property
    def exit_code(self) -> int:  # type: ignore[override]
        return BAD_INPUT if self.status < 500 else NO_STACK
