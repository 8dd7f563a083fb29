"""A call of the API: its request, and the parsing of its answer."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar
from urllib.parse import quote

import httpx
from pydantic import JsonValue, TypeAdapter, ValidationError

from gigpo.client.errors import ApiRefused, BadAnswer, BadInput, refusal_class
from gigpo.client.http.retries import retry_after_s
from gigpo.client.models import JsonObject
from services.contracts.plain_errors import in_words

T = TypeVar("T")
QueryValue = str | int | float | bool | None


@dataclass(frozen=True)
class Call(Generic[T]):
    """One request.

    Args:
        path: template, e.g. `/v1/jobs/{job_id}`; `names` fill it, quoted.
        parse: the value of a good answer.
        query: parameters; those that are None are not sent.
        body: JSON values.
        repeatable: sending it twice has the effect of once; another one is repeated only when it was never received.
        read_timeout_s: longest silence while the answer comes; None: the client's.
        accepted: error statuses whose answers are parsed all the same.
    """

    method: str
    path: str
    parse: Callable[[httpx.Response], T]
    names: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, QueryValue] = field(default_factory=dict)
    body: Mapping[str, JsonValue] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    repeatable: bool = True
    read_timeout_s: float | None = None
    accepted: frozenset[int] = frozenset()

    def request(self, http: httpx.Client | httpx.AsyncClient) -> httpx.Request:
        """The request as it goes out."""
        timeout = http.timeout
        if self.read_timeout_s is not None:
            timeout = httpx.Timeout(timeout.connect, read=self.read_timeout_s)
        query = {name: _query_text(value) for name, value in self.query.items() if value is not None}
        return http.build_request(
            self.method, self._filled_path(), params=query, json=self.body, headers=dict(self.headers), timeout=timeout
        )

    def _filled_path(self) -> str:
        return re.sub(r"\{(\w+)\}", lambda match: _segment(match.group(1), self.names[match.group(1)]), self.path)

    def value(self, answer: httpx.Response) -> T:
        """The content of a whole answer. Raises ApiRefused for a problem, BadAnswer for what is not this API's."""
        if not answer.is_success and answer.status_code not in self.accepted:
            raise refusal(answer)
        try:
            return self.parse(answer)
        except (ValidationError, ValueError) as error:
            where = f"{self.method} {answer.url.path}"
            raise BadAnswer(f"{where}: the answer does not come from this API: {_first_line(error)}") from error


@dataclass(frozen=True)
class Page(Generic[T]):
    """Some entries of a list."""

    entries: list[T]
    next: dict[str, QueryValue]
    """Parameters of the next page; empty: this is the last."""


def get(path: str, shape: type[T], query: Mapping[str, QueryValue] | None = None, **names: str) -> Call[T]:
    """A GET whose answer has the given shape (a pydantic model or any type it knows)."""
    return Call("GET", path, reads(shape), names=names, query=query or {})


def reads(shape: type[T]) -> Callable[[httpx.Response], T]:
    """Reader of a JSON body of this shape; unknown fields are left out: a newer API says more."""
    adapter = TypeAdapter(shape)
    return lambda answer: adapter.validate_json(answer.content, extra="ignore")


def reads_page(field: str, shape: type[T]) -> Callable[[httpx.Response], Page[T]]:
    """Reader of a page: `items`, and `next_cursor` where another one follows.

    An API of the last version had the entries in `field`, or was a list of all of them, and some named `next_offset`.
    """
    body: TypeAdapter[JsonValue] = TypeAdapter(JsonValue)
    entries_of = TypeAdapter(list[shape])  # type: ignore[valid-type]

    def read(answer: httpx.Response) -> Page[T]:
        page = body.validate_json(answer.content)
        if isinstance(page, list):
            return Page(entries_of.validate_python(page, extra="ignore"), {})
        if not isinstance(page, dict):
            raise ValueError(f"want a page, got {type(page).__name__}")
        entries = entries_of.validate_python(page.get("items", page.get(field)), extra="ignore")
        position = {name: page.get(f"next_{name}") for name in ("cursor", "offset")}
        known = [(name, value) for name, value in position.items() if isinstance(value, str | int)]
        return Page(entries, dict(known[:1]))

    return read


def once(key: str | None = None) -> dict[str, str]:
    """Headers that give every repetition of a call the answer of the first."""
    return {"Idempotency-Key": key or uuid.uuid4().hex}


def given(**fields: JsonValue) -> JsonObject:
    """The fields that are not None: the API's defaults are the defaults."""
    return {name: value for name, value in fields.items() if value is not None}


def nothing(_: httpx.Response) -> None:
    """Reader of an answer whose body does not matter."""


def refusal(answer: httpx.Response) -> ApiRefused:
    """The error in an answer whose body was read."""
    status, wait_s = answer.status_code, retry_after_s(answer.headers)
    try:
        problem = answer.json()
        errors = [(str(error["field"]), str(error["message"])) for error in problem.get("errors", [])]
        detail = str(problem["detail"])
    except (ValueError, KeyError, TypeError, AttributeError):
        errors, detail = [], f"HTTP {status} from {answer.url}: {answer.text[:200].strip() or 'no body'}"
    return refusal_class(status)(status, detail, errors, wait_s)


def _segment(what: str, name: str) -> str:
    if name in {"", ".", ".."}:  # they would change the path, quoted or not
        raise BadInput(f"{what}: want a name or an id, got {name!r}")
    return quote(name, safe="")


def _query_text(value: QueryValue) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _first_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc'])) or 'body'}: {in_words(first)}"
    return str(error).splitlines()[0]
