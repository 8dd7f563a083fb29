"""An MCP server of the official package, for tests: over stdio, or over HTTP with `http PORT`."""

import os
import random
import sys
import time

from mcp.server import MCPServer
from pydantic import BaseModel

server = MCPServer("tests")
secret = [0]


class Guessed(BaseModel):
    said: str
    reward: float
    done: bool


@server.tool()
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@server.tool()
def fail(why: str = "so") -> str:
    """Fail."""
    raise ValueError(f"failed: {why}")


@server.tool()
def begin(seed: int, split: str) -> str:
    """Draw the secret."""
    secret[0] = random.Random(f"{split}{seed}").randrange(10)
    return "guess a digit"


@server.tool()
def guess(digit: int) -> Guessed:
    """Guess the secret."""
    right = digit == secret[0]
    return Guessed(said="right" if right else "higher" if digit < secret[0] else "lower", reward=right, done=right)


@server.tool()
def sleep(seconds: float) -> str:
    """Wait."""
    time.sleep(seconds)
    return "awake"


@server.tool()
def environment(name: str) -> str:
    """An environment variable."""
    return os.environ.get(name, "")


@server.tool()
def leave() -> str:
    """End the server."""
    os._exit(1)


if __name__ == "__main__":
    if sys.argv[1:2] == ["http"]:
        server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[2]))
    else:
        server.run()
