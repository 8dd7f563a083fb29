"""Addresses of Redis: one server, a master that Sentinel knows, or a cluster; each with TLS or without.

    redis://[user:password@]host:port[/database]
    redis+sentinel://[user:password@]host:port,host:port/NAME    the Sentinels, and the name of their master
    redis+cluster://[user:password@]host:port,host:port          some nodes; the cluster names the others

`rediss` in place of `redis` is TLS. `?ssl_ca_certs=FILE` names the CA that the server's certificate must come from,
`ssl_certfile` and `ssl_keyfile` a certificate of our own. Sentinels that want a password have it in
`sentinel_username` and `sentinel_password`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import AfterValidator

Kind = Literal["server", "sentinel", "cluster"]
_SCHEMES: Mapping[str, tuple[Kind, bool]] = {
    "redis": ("server", False),
    "rediss": ("server", True),
    "redis+sentinel": ("sentinel", False),
    "rediss+sentinel": ("sentinel", True),
    "redis+cluster": ("cluster", False),
    "rediss+cluster": ("cluster", True),
}
_TLS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_SENTINEL = ("sentinel_username", "sentinel_password")
_PORTS: Mapping[Kind, int] = {"server": 6379, "sentinel": 26379, "cluster": 6379}


@dataclass(frozen=True)
class RedisAddress:
    """An address in its parts."""

    kind: Kind
    hosts: tuple[tuple[str, int], ...]
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    database: int = 0
    master: str = ""
    """Name of the master that the Sentinels know."""
    tls: bool = False
    files: Mapping[str, str] = field(default_factory=dict)
    """Files of TLS: `ssl_ca_certs`, `ssl_certfile`, `ssl_keyfile`."""
    sentinel: Mapping[str, str] = field(default_factory=dict, repr=False)
    """`username` and `password` of the Sentinels."""

    @property
    def login(self) -> dict[str, str]:
        """User and password, as far as they are given."""
        given = {"username": self.username, "password": self.password}
        return {name: value for name, value in given.items() if value}

    @property
    def secured(self) -> dict[str, str]:
        """The requirements of a connection with TLS: a certificate of that CA for that host."""
        return {"ssl_cert_reqs": "required", **self.files} if self.tls else {}


def parse_address(url: str) -> RedisAddress:
    """The parts of an address. Raises ValueError: it is none; the sentence repeats no password."""
    parts = urlsplit(url)
    if parts.scheme not in _SCHEMES:
        raise ValueError(f"want an address that begins with one of {', '.join(_SCHEMES)}, got {parts.scheme!r}")
    kind, tls = _SCHEMES[parts.scheme]
    login, _, places = parts.netloc.rpartition("@")
    username, _, password = login.partition(":")
    options = _options(parts.query, kind, tls)
    where = parts.path.strip("/")
    return RedisAddress(
        kind=kind,
        hosts=_hosts(places, kind),
        username=unquote(username) or None,
        password=unquote(password) or None,
        database=_database(where) if kind == "server" else 0,
        master=_master(where) if kind == "sentinel" else "",
        tls=tls,
        files={name: options[name] for name in _TLS if name in options},
        sentinel={name.removeprefix("sentinel_"): options[name] for name in _SENTINEL if name in options},
    )


def _checked(url: str) -> str:
    parse_address(url)
    return url


def _plain(url: str) -> str:
    if url and parse_address(url).kind == "cluster":
        raise ValueError("want a server or a master that Sentinel knows, got a cluster: Celery cannot use one")
    return url


RedisUrl = Annotated[str, AfterValidator(_checked)]
"""A setting that holds an address."""
OptionalRedisUrl = Annotated[str, AfterValidator(lambda url: url and _checked(url))]
"""The same, or nothing."""
BrokerUrl = Annotated[str, AfterValidator(_plain)]
"""A setting that holds the address of Celery's database; empty: the services' own."""


def _hosts(places: str, kind: Kind) -> tuple[tuple[str, int], ...]:
    found = tuple(_host(one, kind) for one in places.split(",") if one)
    if not found or (kind == "server" and len(found) > 1):
        wanted = "one host" if kind == "server" else "one or more hosts with commas between"
        raise ValueError(f"want {wanted}, got {places!r}")
    return found


def _host(place: str, kind: Kind) -> tuple[str, int]:
    parts = urlsplit(f"//{place}")
    try:
        port = parts.port
    except ValueError as error:
        raise ValueError(f"want host:port, got {place!r}") from error
    if not parts.hostname:
        raise ValueError(f"want host:port, got {place!r}")
    return parts.hostname, port or _PORTS[kind]


def _database(where: str) -> int:
    if where and not (where.isascii() and where.isdigit()):
        raise ValueError(f"want the number of a database, got {where!r}")
    return int(where or 0)


def _master(where: str) -> str:
    if not where:
        raise ValueError("want the name of the master that the Sentinels know, as in redis+sentinel://host:26379/NAME")
    return where


def _options(query: str, kind: Kind, tls: bool) -> dict[str, str]:
    given = dict(parse_qsl(query, keep_blank_values=True))
    known = [*(_TLS if tls else ()), *(_SENTINEL if kind == "sentinel" else ())]
    if unknown := [name for name in given if name not in known]:
        raise ValueError(f"want {', '.join(known) or 'nothing'} behind the question mark, got {unknown[0]!r}")
    return given
