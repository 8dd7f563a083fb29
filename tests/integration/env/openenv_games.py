"""Environments of OpenEnv's own making, served: run with the Python of `.venv-openenv`. Prints its address.

Below /envs/shelf: nested fields, admissible actions, errors of its code, and only with a token. Below /envs/secret: a
seed that is ignored. Below /envs/tools: tools of an MCP server. Below /envs/single: one session alone.
"""

import asyncio
import json
import secrets
import socket
import sys

import uvicorn
from fastapi import FastAPI
from fastmcp import FastMCP
from openenv.core.env_server import Action, Environment, MCPEnvironment, Observation, create_fastapi_app
from openenv.core.env_server.mcp_types import CallToolAction, CallToolObservation
from openenv.core.env_server.types import State

TOKEN = "Bearer let-me-in"


class Place(Action):
    where: dict


class Shelf(Observation):
    board: dict
    messages: list
    legal: list


class Take(Action):
    word: str


class Seen(Observation):
    text: str


class ShelfEnvironment(Environment):
    SUPPORTS_CONCURRENT_SESSIONS = True

    def reset(self, seed=None, episode_id=None, delay_s=0.0, **more):
        self.slots, self.said = [0, 0, 0], []
        return self.seen()

    async def reset_async(self, seed=None, episode_id=None, delay_s=0.0, **more):
        await asyncio.sleep(delay_s)
        return self.reset()

    def step(self, action, timeout_s=None, **more):
        column = int(action.where["column"])
        self.slots[column] += 1
        self.said.append({"content": f"placed in {column}"})
        done = sum(self.slots) >= 3
        return self.seen(done=done, reward=float(done))

    def seen(self, **more):
        legal = [column for column, count in enumerate(self.slots) if not count]
        return Shelf(board={"rows": [self.slots], "turn": len(self.said)}, messages=self.said, legal=legal, **more)

    @property
    def state(self):
        return State()


class SecretEnvironment(Environment):
    SUPPORTS_CONCURRENT_SESSIONS = True

    def reset(self, seed=None, episode_id=None, **more):
        self.secret = secrets.token_hex(4)
        return Seen(text="guess")

    def step(self, action, timeout_s=None, **more):
        return Seen(text=f"no, it was {self.secret}")

    @property
    def state(self):
        return State()


class ToolEnvironment(MCPEnvironment):
    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self):
        server = FastMCP("calculator")

        @server.tool
        def add(a: int, b: int) -> int:
            """Add two numbers."""
            return a + b

        @server.tool
        def fail(why: str = "") -> str:
            """Fail."""
            raise ValueError(f"failed: {why}")

        super().__init__(server)

    def reset(self, seed=None, episode_id=None, **more):
        return Observation()

    def _step_impl(self, action, timeout_s=None, **more):
        raise ValueError("want a call of a tool")

    @property
    def state(self):
        return State()


class WithToken:
    """Passes on what bears the token; anything else is refused before its socket opens."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        if dict(scope["headers"]).get(b"authorization") != TOKEN.encode():
            await send({"type": "websocket.close", "code": 1008})
            return
        await self.app(scope, receive, send)


def application() -> FastAPI:
    app = FastAPI()
    app.mount("/envs/shelf", WithToken(create_fastapi_app(ShelfEnvironment, Place, Shelf, max_concurrent_envs=8)))
    app.mount("/envs/secret", create_fastapi_app(SecretEnvironment, Take, Seen, max_concurrent_envs=64))
    app.mount("/envs/single", create_fastapi_app(SecretEnvironment, Take, Seen, max_concurrent_envs=1))
    tools = create_fastapi_app(ToolEnvironment, CallToolAction, CallToolObservation, max_concurrent_envs=8)
    app.mount("/envs/tools", tools)
    return app


if __name__ == "__main__":
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(64)
        app = application()
        sys.stdout.write(json.dumps({"address": f"127.0.0.1:{listening.getsockname()[1]}"}) + "\n")
        sys.stdout.flush()
        uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listening])
