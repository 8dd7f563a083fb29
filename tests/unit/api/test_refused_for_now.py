"""Which errors of a database, Redis or a disk are no defects: whoever asks is told to try again."""

from __future__ import annotations

import errno
from socket import gaierror
from sqlite3 import OperationalError as SqliteError

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as NoConnectionLeft

from services.api.http.unexpected_errors import refused_for_now


class FromPostgresql(Exception):
    """Raise as the driver does, with its code."""

    def __init__(self, sqlstate: str) -> None:
        super().__init__(f"error {sqlstate}")
        self.sqlstate = sqlstate


@pytest.mark.parametrize(
    ("error", "begins"),
    [
        (RedisConnectionError("Error 111 connecting to 10.0.0.1:6379."), "Redis refuses the request: Error 111"),
        (RedisTimeoutError(), "Redis refuses the request: it does not answer;"),
        (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), "the database refuses the request: it does not answer"),
        (TimeoutError(), "the database refuses the request: it does not answer"),
        (gaierror(-2, "Name or service not known"), "the database refuses the request: it does not answer"),
        (FromPostgresql("57P03"), "the database refuses the request: it is starting or shutting down"),
        (FromPostgresql("53300"), "the database refuses the request: it has no room"),
        (OperationalError("UPDATE", {}, FromPostgresql("08006")), "the database refuses the request: it does not"),
        (NoConnectionLeft("QueuePool limit"), "the database refuses the request: every connection to it is taken"),
        (OSError(errno.EROFS, "read-only"), "the disk of the API refuses the request: read-only file system"),
    ],
)
def test_what_passes_by_itself_is_503_with_its_cause(error: Exception, begins: str) -> None:
    problem = refused_for_now(error)
    assert problem is not None
    assert (problem.status, problem.headers) == (503, {"Retry-After": "5"})
    assert str(problem.detail).startswith(begins), problem.detail


@pytest.mark.parametrize(
    "error",
    [
        ValueError("x"),
        FromPostgresql("42P01"),
        OperationalError("SELECT", {}, SqliteError("no such table")),
        ResponseError("WRONGTYPE"),
        FileNotFoundError(errno.ENOENT, "no such file"),
    ],
)
def test_a_defect_stays_one(error: Exception) -> None:
    assert refused_for_now(error) is None
