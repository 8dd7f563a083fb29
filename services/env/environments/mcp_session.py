"""A session with an MCP server, by the official package: its asynchronous client behind plain calls.

One event loop a worker, in a thread of its own; a session is one task of it, because the client must be left in the
task that entered it.
"""

import asyncio
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import AsyncExitStack
from functools import cache
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from gigpo.env.environment import InfraFault
from gigpo.env.progress import allow_silence

END_S = 10.0
"""A server is given so long to end, seconds."""
WITH_US = "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 9); os.execvp(sys.argv[1], sys.argv[1:])"
"""The program of a server, started so that it dies with the worker, however that dies (PR_SET_PDEATHSIG, SIGKILL)."""
MAX_TOOLS = 128
MAX_ANSWER = 1 << 20
"""Characters of what a tool says."""


class McpServer(BaseModel):
    """A server that the operator allows: a program that is started for each session, or an address."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    command: str = ""
    args: tuple[str, ...] = ()
    env: dict[str, str] = {}
    url: str = ""
    headers: dict[str, str] = {}
    tools: tuple[str, ...] = Field((), description="Tools that jobs may use; empty: all.")

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if bool(self.command) == bool(self.url):
            raise ValueError("want one of command and url")
        return self


class Session:
    """One connection to a server, and for a program one process. InfraFault: it does not answer."""

    def __init__(self, server: McpServer, timeout_s: float) -> None:
        self._server, self._timeout_s = server, timeout_s
        self._ready: Future[None] = Future()
        self._questions: asyncio.Queue[tuple[Any, Future[Any]]] = asyncio.Queue()
        self._ended = threading.Event()
        self._task = asyncio.run_coroutine_threadsafe(self._serve(), _loop())
        self._result(self._ready, "start")

    def list_tools(self) -> list[Any]:
        """Its tools, of the package's own type."""
        return list(self._asked(lambda client: client.list_tools(), "list its tools").tools)

    def call_tool(self, name: str, arguments: Mapping[str, Any]) -> Any:
        """A tool's answer, of the package's own type. McpError of the package: the server refuses the call."""
        return self._asked(lambda client: client.call_tool(name, dict(arguments)), f"call {name}")

    def close(self) -> None:
        """End the session; a program ends too."""
        self._task.cancel()
        self._ended.wait(END_S)  # one that does not end dies with the worker

    def _asked(self, question: Any, what: str) -> Any:
        answer: Future[Any] = Future()
        _loop().call_soon_threadsafe(self._questions.put_nowait, (question, answer))
        return self._result(answer, what)

    def _result(self, answer: Future[Any], what: str) -> Any:
        from mcp import MCPError
        from mcp.types import CONNECTION_CLOSED, REQUEST_TIMEOUT

        try:
            with allow_silence(self._timeout_s + END_S):
                return answer.result(self._timeout_s)
        except MCPError as error:
            if error.code in (CONNECTION_CLOSED, REQUEST_TIMEOUT):
                raise InfraFault(f"the MCP server does not {what}: {error}") from error
            raise
        except TimeoutError as error:
            raise InfraFault(f"the MCP server does not {what} within timeout_s = {self._timeout_s:g} s") from error
        except BaseException as error:
            raise InfraFault(f"the MCP server does not {what}: {_causes(error)}") from error

    async def _serve(self) -> None:
        """Answer one question after another until the session ends; whatever ends it reaches who waits."""
        waiting: Future[Any] = self._ready
        try:
            async with AsyncExitStack() as stack:
                client = await stack.enter_async_context(await _client(self._server, stack, self._timeout_s))
                self._ready.set_result(None)
                while True:
                    question, waiting = await self._questions.get()
                    await _answer(question(client), waiting)
        except BaseException as error:
            if not waiting.done():
                waiting.set_exception(error)
            raise
        finally:
            self._ended.set()


async def _answer(question: Any, waiting: Future[Any]) -> None:
    from mcp import MCPError

    try:
        waiting.set_result(await question)
    except MCPError as error:  # the server's word, which ends nothing
        waiting.set_exception(error)


async def _client(server: McpServer, stack: AsyncExitStack, timeout_s: float) -> Any:
    """The package's client, which asks no one but this server, and answers none of its questions."""
    import httpx2
    from mcp import Client, StdioServerParameters, stdio_client
    from mcp.client.streamable_http import streamable_http_client

    if server.url:
        http = httpx2.AsyncClient(headers=server.headers, timeout=timeout_s, trust_env=False, follow_redirects=False)
        connection: Any = streamable_http_client(server.url, http_client=await stack.enter_async_context(http))
    else:
        args = ["-P", "-c", WITH_US, server.command, *server.args]
        program = StdioServerParameters(command=sys.executable, args=args, env=dict(server.env))
        connection = stdio_client(program)
    return Client(connection, read_timeout_seconds=timeout_s)


@cache
def _loop() -> asyncio.AbstractEventLoop:
    """The event loop of this worker; its thread ends with the process."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="mcp", daemon=True).start()
    return loop


def _causes(error: BaseException) -> str:
    """The causes in a group of exceptions, such as a task group raises, in one line."""
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(_causes(one) for one in error.exceptions)
    return f"{type(error).__name__}: {error}"[:300]
