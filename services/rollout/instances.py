"""The environment services behind the configured addresses: who is there, who answers, and how much room each has."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc
import structlog
from gigpo_proto.env.v1 import env_pb2, env_pb2_grpc

from services.kit.addresses import split_address
from services.kit.tasks import beside, ended

log = structlog.get_logger("rollout")

LOOK_EVERY_S, NAME_S = 1.0, 5.0
ASKED_AT_ONCE = 50
"""Instances that one look asks besides those in use, so that a thousand of them cost no core: each is asked in turn."""
ANSWER_S = 10.0
"""An instance that says nothing for so long is taken for lost, where there is another one; a busy one answers sooner,
because it never waits for an environment."""
OPTIONS = [
    ("grpc.max_receive_message_length", 64 * 2**20),  # as the service's own limit
    ("grpc.max_send_message_length", 64 * 2**20),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),  # a restarted service is found again within two seconds
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.use_local_subchannel_pool", 1),  # one connection for each instance, even behind one address
]


@dataclass(eq=False)
class Instance:
    """One address at which an environment service answers, and what it said last."""

    address: str
    stub: env_pb2_grpc.EnvironmentServiceAsyncStub
    name: str = ""
    """Identity of the process, another one at each start; empty: not heard of yet."""
    reachable: bool | None = None
    """None: not asked yet."""
    draining: bool = False
    leases: int = 0
    max_leases: int = 0
    asking: asyncio.Task[None] | None = None
    asked_at_look: int = 0
    """The number of the look that asked it last; 0: none yet."""

    @property
    def usable(self) -> bool:
        """Whether it may open sessions now, as far as is known."""
        return self.reachable is not False and not self.draining

    @property
    def load(self) -> float:
        """Share of its room that is taken."""
        return self.leases / max(1, self.max_leases)


class Instances:
    """All instances, and the best of them. Make it with `connected_instances`.

    Args:
        addresses: host:port, several with commas between them. A name that stands for many machines, as one of a
            scaled service in compose or of a headless Service in Kubernetes does, gives an instance for each.
    """

    def __init__(self, addresses: str) -> None:
        self.addresses = addresses
        self._names = [split_address(one) for one in addresses.split(",")]
        self._known: dict[str, Instance] = {}
        self._looks = 0
        self.in_use: Callable[[], Collection[Instance]] = tuple
        """The instances whose state somebody depends on: each look asks them."""

    def best(self, avoid: Instance | None = None) -> Instance | None:
        """The usable instance with the most room, `avoid` only where there is no other; None: none is known."""

        def rank(one: Instance) -> tuple[bool, bool, bool, float, float]:
            return not one.usable, one is avoid, one.reachable is None, one.load, random.random()

        return min(self._known.values(), key=rank, default=None)

    def has_other(self, instance: Instance) -> bool:
        """Whether another instance answers and takes sessions."""
        return any(one.reachable and one.usable and one is not instance for one in self._known.values())

    def is_lost(self, instance: Instance) -> bool:
        """Whether an instance does not answer and another one does."""
        return instance.reachable is False and self.has_other(instance)

    def seen(self) -> list[dict[str, object]]:
        """The table of instances, in order of address."""
        return [
            {
                "address": one.address,
                "instance": one.name,
                "reachable": bool(one.reachable),
                "draining": one.draining,
                "leases": one.leases,
                "max_leases": one.max_leases,
            }
            for one in sorted(self._known.values(), key=lambda one: one.address)
        ]

    async def follow(self) -> None:
        """Look without end which instances there are, and ask each how it is."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_EVERY_S)

    async def look(self) -> None:
        """Find the instances; ask those in use, and as many of the others as a look may, of those that have answered
        the question before."""
        found = {address for host, port in self._names for address in await _resolved(host, port)}
        for address in found - self._known.keys():
            channel = grpc.aio.insecure_channel(address, options=OPTIONS)  # closed when nobody refers to it any more
            self._known[address] = Instance(address, env_pb2_grpc.EnvironmentServiceStub(channel))
        gone = [one for one in self._known.values() if one.address not in found and one.reachable is False]
        for instance in gone:
            del self._known[instance.address]
        self._looks += 1
        for instance in self._due(found):
            if instance.asking is not None:
                instance.asking.result()
            instance.asking, instance.asked_at_look = asyncio.create_task(_ask(instance)), self._looks

    def _due(self, found: set[str]) -> list[Instance]:
        """The instances to ask now: those in use, then those whose address is gone, then those asked longest ago."""
        in_use = set(self.in_use())
        free = [one for one in self._known.values() if one.asking is None or one.asking.done()]
        others = [one for one in free if one not in in_use]
        others.sort(key=lambda one: (one.address in found, one.asked_at_look))
        return [one for one in free if one in in_use] + others[:ASKED_AT_ONCE]

    async def end(self) -> None:
        """Ask nobody any more."""
        await ended([one.asking for one in self._known.values() if one.asking is not None])


@asynccontextmanager
async def connected_instances(addresses: str) -> AsyncIterator[Instances]:
    """The instances at these addresses, which need not be up yet; they are followed while the block runs."""
    instances = Instances(addresses)
    await instances.look()
    try:
        async with beside(instances.follow):
            yield instances
    finally:
        await instances.end()


async def _resolved(host: str, port: int) -> set[str]:
    """The addresses that a name stands for now; empty: nobody can tell."""
    try:
        async with asyncio.timeout(NAME_S):  # a server of names that is away holds up no question to an instance
            answers = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        log.warning("the name of the environment service is not known", host=host, error=str(error))
        return set()
    hosts = {str(address[0]) for *_, address in answers}
    return {f"[{one}]:{port}" if ":" in one else f"{one}:{port}" for one in hosts}


async def _ask(instance: Instance) -> None:
    try:
        said = await instance.stub.GetInstance(env_pb2.GetInstanceRequest(), timeout=ANSWER_S)
    except grpc.aio.AioRpcError as error:
        older = error.code() is grpc.StatusCode.UNIMPLEMENTED  # it serves as well as any, and says less
        if not older and instance.reachable:
            log.warning("an environment service is lost", address=instance.address, error=error.code().name)
        instance.reachable = older
        return
    if instance.name != said.instance:
        log.info("found an environment service", address=instance.address, instance=said.instance)
    instance.reachable, instance.name, instance.draining = True, said.instance, said.draining
    instance.leases, instance.max_leases = said.leases, said.max_leases
