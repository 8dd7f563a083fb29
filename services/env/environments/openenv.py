"""Any OpenEnv server as an environment, over its WebSocket protocol: one socket, one session.

Transcript (OpenEnv's echo template; action "message", show ["echoed_message"]):

    Echo environment ready!         hello
    hello                           reward 0.5

Anchors: the text of the fields in `anchor`, otherwise of those in `show`. OpenEnv has no task sets: the two splits are
two ranges of seeds, and a server that ignores its seed shows one task. The server decides about rewards, determinism
and recurring states; `deterministic` declares that it is deterministic. Licence of the protocol's code: BSD-3.
"""

import contextlib
import json
import socket
import threading
from collections.abc import Mapping
from hashlib import blake2b
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pydantic import Field, JsonValue

from gigpo.env.environment import (
    Capabilities,
    CostClass,
    Environment,
    EnvironmentKwargs,
    InfraFault,
    KwargsError,
    Observation,
    Outcome,
)

if TYPE_CHECKING:
    from websockets.sync.client import ClientConnection

PORTS = {"ws": 80, "wss": 443, "http": 80, "https": 443}
MAX_ANSWER_BYTES = 4 * 2**20
THREAD_STACK_BYTES = 512 * 1024
"""Each socket has a thread; their default stack of 8 MiB would use up a worker's address space."""
INFRA_CODES = {"CAPACITY_REACHED", "SESSION_ERROR"}
"""Errors of the server that say nothing about the episode."""


class OpenEnvKwargs(EnvironmentKwargs):
    """What the client can be told."""

    url: str = Field(
        pattern=r"^(ws|wss|http|https)://[^/?#@\s]+/?$",
        description="The server, such as ws://127.0.0.1:8000; the operator of this service must allow its host:port.",
        json_schema_extra={"format": "uri"},
    )
    action: str = Field(
        "", description="The action's field that takes the agent's words; empty: the words are the action, as JSON."
    )
    show: tuple[str, ...] = Field((), description="Fields of the observation that the agent sees; empty: all, as JSON.")
    anchor: tuple[str, ...] = Field((), description="Fields that name the state; empty: those that are shown.")
    task: str = Field("", description="What the agent is asked to do.")
    reset: dict[str, JsonValue] = Field({}, description="Passed to reset, beside the seed.")
    won_reward: float = Field(1.0, description="An episode whose last reward is at least this is won.")
    deterministic: bool = Field(False, description="Same seed and actions, same observations: a lost one is replayed.")
    timeout_s: float = Field(20.0, gt=0, le=600, description="Longest that one answer of the server may take, seconds.")


class OpenEnv(Environment):
    """An OpenEnv server elsewhere, over its WebSocket protocol. Its addresses must be allowed by the operator."""

    Kwargs = OpenEnvKwargs
    kwargs: OpenEnvKwargs
    capabilities = Capabilities(deterministic=False, cost_class=CostClass.MODERATE, overlaps=True)
    requires = ("websockets",)
    extra = "openenv"
    examples = ()  # there is no server that everybody has
    max_sessions = 512

    @property
    def deterministic(self) -> bool:
        """As the job says."""
        return self.kwargs.deterministic

    @property
    def longest_call_s(self) -> float:
        """To connect and to be answered."""
        return 2 * self.kwargs.timeout_s

    def reset(self, seed: int, split: str) -> Observation:
        self._socket = self._connected()
        digest = blake2b(f"{split}/{seed}".encode(), digest_size=4).digest()
        data = {**self.kwargs.reset, "seed": int.from_bytes(digest, "little") >> 1}  # fits into a signed 32-bit number
        answer = self._asked({"type": "reset", "data": data})
        self._seen = self._observation(_observed(answer, "reset"))
        return self._seen

    def step(self, action: str) -> Outcome:
        data = self._action(action)
        answer: dict[str, JsonValue] = (
            {"type": "error"} if data is None else self._asked({"type": "step", "data": data})
        )
        if data is None or _error_code(answer) == "VALIDATION_ERROR":
            return Outcome(observation=self._seen, action_valid=False)
        observed = _observed(answer, "step")
        self._seen = self._observation(observed)
        reward, done = _number(observed.get("reward")), bool(observed.get("done"))
        won = done and reward >= self.kwargs.won_reward
        return Outcome(observation=self._seen, reward=reward, terminated=done, won=won, action_valid=True)

    def close(self) -> None:
        connection = getattr(self, "_socket", None)
        if connection is not None:
            with contextlib.suppress(OSError):  # gone already
                connection.close()

    def _connected(self) -> "ClientConnection":
        """A socket to the server: straight, without proxy or redirect. KwargsError: not allowed."""
        from websockets.exceptions import WebSocketException
        from websockets.sync.client import connect

        parts = urlsplit(self.kwargs.url)
        try:
            host, port = parts.hostname or "", parts.port or PORTS[parts.scheme]
        except ValueError as error:
            raise KwargsError(f"url: {error}, got {self.kwargs.url!r}") from error
        allowed = self.options.get("allowed", [])
        if not isinstance(allowed, list) or f"{host}:{port}" not in allowed:
            raise KwargsError(f"url: {host}:{port} is not one of the addresses that this service may call")
        secure = "wss" if parts.scheme in ("wss", "https") else "ws"
        usual = threading.stack_size(THREAD_STACK_BYTES)
        try:
            straight = socket.create_connection((host, port), self.kwargs.timeout_s)
            return connect(
                f"{secure}://{parts.netloc}/ws",
                sock=straight,
                proxy=None,
                compression=None,
                ping_interval=None,
                open_timeout=self.kwargs.timeout_s,
                close_timeout=1.0,
                max_size=MAX_ANSWER_BYTES,
            )
        except (OSError, WebSocketException, ValueError) as error:  # ValueError: it redirects, and the socket stays
            raise InfraFault(f"{self.kwargs.url} does not answer: {error}") from error
        finally:
            threading.stack_size(usual)

    def _asked(self, message: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
        """The server's answer to one message. InfraFault: there is none."""
        from websockets.exceptions import ConnectionClosed, WebSocketException

        try:
            with contextlib.suppress(ConnectionClosed):  # then it may have said why before it closed
                self._socket.send(json.dumps(dict(message)))
            answer = json.loads(self._socket.recv(self.kwargs.timeout_s))
        except (OSError, WebSocketException) as error:
            raise InfraFault(
                f"the connection to {self.kwargs.url} was lost during {message['type']}: {error!r}"
            ) from error
        if not isinstance(answer, dict):
            raise TypeError(f"the server answered with {type(answer).__name__}")
        if _error_code(answer) in INFRA_CODES:
            raise InfraFault(f"{self.kwargs.url}: {answer['data']}")
        return answer

    def _action(self, words: str) -> dict[str, JsonValue] | None:
        """The action as the server wants it; None: the words are none."""
        if self.kwargs.action:
            return {self.kwargs.action: words}
        try:
            action = json.loads(words)
        except ValueError:
            return None
        return action if isinstance(action, dict) else None

    def _observation(self, observed: Mapping[str, JsonValue]) -> Observation:
        fields = observed.get("observation")
        if not isinstance(fields, dict):
            raise TypeError(f"observation: want an object, got {fields!r:.80}")
        shown = _shown(fields, self.kwargs.show)
        anchor = _shown(fields, self.kwargs.anchor) if self.kwargs.anchor else shown
        return Observation(text=shown, anchor=anchor, task=self.kwargs.task)


def _shown(fields: Mapping[str, JsonValue], names: tuple[str, ...]) -> str:
    """The named fields, one a line; without names all but the metadata, as JSON."""
    if not names:
        return json.dumps({name: value for name, value in fields.items() if name != "metadata"}, sort_keys=True)
    values = [fields.get(name, "") for name in names]
    return "\n".join(value if isinstance(value, str) else json.dumps(value, sort_keys=True) for value in values)


def _number(value: JsonValue) -> float:
    """A reward as the server sent it, which is 0 where it sent none. TypeError: it is no number."""
    if isinstance(value, dict | list):
        raise TypeError(f"reward: want a number, got {value!r:.80}")
    return float(value or 0.0)


def _error_code(answer: Mapping[str, JsonValue]) -> str:
    data = answer.get("data")
    return str(data.get("code", "")) if answer.get("type") == "error" and isinstance(data, dict) else ""


def _observed(answer: Mapping[str, JsonValue], asked: str) -> dict[str, JsonValue]:
    data = answer.get("data")
    if answer.get("type") != "observation" or not isinstance(data, dict):
        raise RuntimeError(f"the server answered {asked} with {answer!r:.500}")
    return data
