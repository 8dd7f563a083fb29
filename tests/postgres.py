"""A real PostgreSQL server from Debian's package, for the tests of what is stored."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

import pytest
from sqlalchemy import make_url

from services.kit.process import die_with_parent

BINARIES = Path("/usr/lib/postgresql")
UNPRIVILEGED = "nobody"
"""The server refuses to run as root; then it runs as this user."""
OWNER = "gigpo"
START_S = 60.0


@dataclass(frozen=True)
class PostgresServer:
    """A running server."""

    binaries: Path
    folder: Path
    """Holds its socket."""

    def new_database(self) -> str:
        """SQLAlchemy URL of an empty database."""
        name = f"test_{secrets.token_hex(6)}"
        self._run_client("createdb", name)
        return f"postgresql+asyncpg://{OWNER}@/{name}?host={self.folder}"

    def dump(self, url: str) -> bytes:
        """All that a database holds."""
        return self._run_client("pg_dump", str(make_url(url).database)).encode()

    def _run_client(self, program: str, database: str) -> str:
        return _run([str(self.binaries / program), "--host", str(self.folder), "--username", OWNER, database])


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """A new server on a socket in a temporary folder. A missing one skips the test, and fails it in CI."""
    found = sorted(BINARIES.glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    if not found:
        message = "no PostgreSQL server: tests/install_servers.sh installs one"
        pytest.fail(message) if os.environ.get("CI") == "true" else pytest.skip(message)
    folder = Path(mkdtemp(prefix="gigpo-postgres-"))  # the path of a socket has room for 107 bytes
    try:
        with _running(found[-1].parent, folder):
            yield PostgresServer(found[-1].parent, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _running(binaries: Path, folder: Path) -> Iterator[None]:
    user = pwd.getpwnam(UNPRIVILEGED).pw_uid if os.getuid() == 0 else None
    if user is not None:
        os.chown(folder, user, -1)
    made = ["--username", OWNER, "--auth", "trust", "--encoding", "UTF8", "--no-sync"]
    _run([str(binaries / "initdb"), "--pgdata", str(folder / "data"), *made], user)
    # without durability: a test survives no power cut
    options = ["-c", "fsync=off", "-c", "listen_addresses=", "-c", f"unix_socket_directories={folder}"]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            [str(binaries / "postgres"), "-D", str(folder / "data"), *options],
            stdout=log,
            stderr=log,
            user=user,
            cwd=folder,
            preexec_fn=die_with_parent,
        )
    try:
        _wait_until_ready(server, binaries, folder)
        yield
    finally:
        server.send_signal(signal.SIGINT)  # it disconnects who is still there
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _wait_until_ready(server: subprocess.Popen[bytes], binaries: Path, folder: Path) -> None:
    deadline, ready = time.monotonic() + START_S, [str(binaries / "pg_isready"), "--quiet", "--host", str(folder)]
    while subprocess.run(ready, timeout=START_S, check=False).returncode:
        assert server.poll() is None, (folder / "log").read_text(errors="replace")[-2_000:]
        assert time.monotonic() < deadline, f"PostgreSQL was not ready within {START_S:g} s"
        time.sleep(0.1)


def _run(command: list[str], user: int | None = None) -> str:
    done = subprocess.run(command, user=user, cwd="/", capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"{command[0]} ended with {done.returncode}: {done.stderr[-2_000:]}"
    return done.stdout
