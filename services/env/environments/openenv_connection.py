"""The socket to an OpenEnv server: straight to an address that the operator allows, one question after another."""

import contextlib
import json
import re
import socket
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

from pydantic import JsonValue

from gigpo.env.environment import InfraFault, KwargsError

if TYPE_CHECKING:
    from websockets.sync.client import ClientConnection

Message = dict[str, JsonValue]

PORTS = {"ws": 80, "wss": 443, "http": 80, "https": 443}
MAX_ANSWER_BYTES = 4 * 2**20
TOO_BIG = 1009
"""The code with which our side closes where an answer is larger."""
THREAD_STACK_BYTES = 512 * 1024
"""Each socket has a thread; their default stack of 8 MiB would use up a worker's address space."""
INFRA_CODES = {"CAPACITY_REACHED", "SESSION_ERROR", "FACTORY_ERROR"}
"""Errors of the server that say nothing about the episode."""
HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
HEADER_VALUE = re.compile(r"[\t\x20-\x7e]*")
OWN_HEADERS = re.compile(r"(?i)host|connection|upgrade|content-length|transfer-encoding|origin|sec-websocket-.*")


def check_headers(headers: Mapping[str, str]) -> None:
    """ValueError: one would end the header early, or is the protocol's own."""
    for name, value in headers.items():
        if not HEADER_NAME.fullmatch(name) or OWN_HEADERS.fullmatch(name) or not HEADER_VALUE.fullmatch(value):
            raise ValueError(f"headers: want names and values of HTTP other than the protocol's own, got {name!r}")


class Connection:
    """One session on the server.

    Args:
        options: the operator's: `allowed` addresses, such as "127.0.0.1:8000" or "host:443/envs/echo", and `headers` by
            host:port.
        headers: the job's; the operator's win.
        timeout_s: longest that one answer may take, seconds.

    Raises:
        KwargsError: the operator does not allow the address.
        InfraFault: the server cannot be reached.
    """

    def __init__(
        self, url: str, options: Mapping[str, JsonValue], headers: Mapping[str, str], timeout_s: float
    ) -> None:
        self._url, self._timeout_s = url, timeout_s
        parts = urlsplit(url)
        address = _allowed_address(parts, options)
        told = options.get("headers", {})
        mine = told.get(f"{address[0]}:{address[1]}", {}) if isinstance(told, dict) else {}
        given = {
            **headers,
            **{str(name): str(value) for name, value in (mine.items() if isinstance(mine, dict) else ())},
        }
        self._socket = self._opened(parts, address, given)

    def ask(self, message: Mapping[str, JsonValue]) -> Message:
        """The server's answer. InfraFault: there is none; ValueError: it is too large."""
        from websockets.exceptions import ConnectionClosed, WebSocketException

        try:
            with contextlib.suppress(ConnectionClosed):  # the server may have said why before it closed
                self._socket.send(json.dumps(dict(message)))
            answer = json.loads(self._socket.recv(self._timeout_s))
        except TimeoutError as error:
            said = f"no answer to {message['type']} within timeout_s = {self._timeout_s:g} s"
            raise InfraFault(f"{self._url}: Timeout: {said}") from error
        except (OSError, WebSocketException) as error:
            if isinstance(error, ConnectionClosed) and error.sent and error.sent.code == TOO_BIG:
                raise ValueError(f"an answer of {self._url} is larger than {MAX_ANSWER_BYTES} bytes") from error
            raise InfraFault(f"the connection to {self._url} was lost during {message['type']}: {error!r}") from error
        if not isinstance(answer, dict):
            raise TypeError(f"the server answered with {type(answer).__name__}")
        if error_code(answer) in INFRA_CODES:
            raise InfraFault(f"{self._url}: {error_code(answer)}: {error_message(answer)}")
        return answer

    def close(self) -> None:
        """End the session."""
        with contextlib.suppress(OSError):  # gone already
            self._socket.close()

    def _opened(self, parts: SplitResult, address: tuple[str, int], headers: Mapping[str, str]) -> "ClientConnection":
        """A socket straight there, without proxy or redirect."""
        from websockets.exceptions import WebSocketException
        from websockets.sync.client import connect

        secure = "wss" if parts.scheme in ("wss", "https") else "ws"
        path = parts.path.rstrip("/").removesuffix("/ws")
        usual = threading.stack_size(THREAD_STACK_BYTES)
        try:
            straight = socket.create_connection(address, self._timeout_s)
            return connect(
                f"{secure}://{parts.netloc}{path}/ws",
                sock=straight,
                proxy=None,
                compression=None,
                ping_interval=None,
                additional_headers=dict(headers),
                open_timeout=self._timeout_s,
                close_timeout=1.0,
                max_size=MAX_ANSWER_BYTES,
            )
        except (OSError, WebSocketException, ValueError) as error:  # ValueError: it redirects, and the socket stays
            raise InfraFault(f"{self._url} does not answer: {error}") from error
        finally:
            threading.stack_size(usual)


def error_code(answer: Mapping[str, JsonValue]) -> str:
    """Why the server refuses, such as VALIDATION_ERROR; empty: it does not."""
    data = answer.get("data")
    return str(data.get("code", "")) if answer.get("type") == "error" and isinstance(data, dict) else ""


def error_message(answer: Mapping[str, JsonValue]) -> str:
    """The same in the server's words."""
    data = answer.get("data")
    return str(data.get("message", "")) if isinstance(data, dict) else ""


def _allowed_address(parts: SplitResult, options: Mapping[str, JsonValue]) -> tuple[str, int]:
    """Host and port. KwargsError: the operator allows neither them nor this path on them."""
    try:
        host, port = parts.hostname or "", parts.port or PORTS[parts.scheme]
    except ValueError as error:
        raise KwargsError(f"url: {error}, got {parts.geturl()!r}") from error
    if re.search(r"%|/\.{1,2}(/|$)|//", parts.path):
        raise KwargsError(f"url: want a plain path, got {parts.path!r}")
    allowed = options.get("allowed", [])
    path = parts.path.rstrip("/")
    for entry in map(str, allowed if isinstance(allowed, list) else ()):
        where, slash, below = entry.rstrip("/").partition("/")
        if where == f"{host}:{port}" and (not slash or f"{path}/".startswith(f"/{below}/")):
            return host, port
    raise KwargsError(f"url: {host}:{port}{path} is not one of the addresses that this service may call")
