"""Builds and shuts down the server: workers, service, gRPC, health and reflection."""

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator

import grpc
from gigpo_proto.env.v1 import env_pb2, env_pb2_grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from services.env.edge.refuse_malformed import RefuseMalformed
from services.env.edge.servicer import EnvServicer
from services.env.metrics import families
from services.env.sessions.leases import LeaseTable
from services.env.sessions.pool import WorkerPool
from services.env.sessions.service import EnvService, Limits
from services.env.settings import Settings
from services.env.workers.listing import worker_config
from services.kit.side_port import Sources

SERVICE_NAME = env_pb2.DESCRIPTOR.services_by_name["EnvironmentService"].full_name
MAX_MESSAGE_BYTES = 64 * 2**20
"""A batch of max_batch_steps observations of 8 KiB fits."""
REAP_EVERY_S = 1.0


class NoWorkers(Exception):
    """The service can open no session now."""


class Health:
    """The standard health service; answers SERVING only while workers are up and nothing drains."""

    def __init__(self) -> None:
        self.servicer = health.aio.HealthServicer()  # type: ignore[attr-defined]
        self._draining = self._serving = False
        self._setting: set[asyncio.Task[None]] = set()

    def set(self, serving: bool) -> None:
        """Tell whether workers are up; has no effect once draining."""
        self._answer(serving and not self._draining)

    def drain(self) -> None:
        """NOT_SERVING from now on."""
        self._draining = True
        self._answer(False)

    async def check(self) -> None:
        """Raises NoWorkers."""
        if not self._serving:
            raise NoWorkers("no worker can open sessions now")

    def _answer(self, serving: bool) -> None:
        self._serving = serving
        status = health_pb2.HealthCheckResponse
        for name in ("", SERVICE_NAME):
            work = self.servicer.set(name, status.SERVING if serving else status.NOT_SERVING)
            task = asyncio.get_running_loop().create_task(work)
            self._setting.add(task)
            task.add_done_callback(self._setting.discard)


async def _reap_forever(service: EnvService, every_s: float) -> None:
    while True:
        await asyncio.sleep(every_s)
        service.reap()


@contextlib.asynccontextmanager
async def running_server(settings: Settings, sources: Sources | None = None) -> AsyncIterator[str]:
    """Serve while the block runs; gives "host:port". Then drain, stop, and leave no process behind.

    Args:
        sources: of the side port; the service adds itself.

    TimeoutError: no worker came up. RuntimeError: the address cannot be bound.
    """
    answering = Health()
    answering.set(False)
    instance = secrets.token_hex(6)
    pool = WorkerPool(settings, worker_config(settings), answering.set)
    service = EnvService(
        pool,
        LeaseTable(ttl_s=settings.lease_ttl_s, limit=settings.max_leases),
        Limits(settings.call_timeout_s, settings.max_group_size, settings.max_action_bytes, settings.max_sessions),
        clock=time.monotonic,
        new_lease_id=lambda: f"{instance}.{secrets.token_hex(12)}",
    )
    if sources is not None:
        sources.checks["workers"] = answering.check
        sources.families = lambda: families(service.load())
    options = [(f"grpc.max_{way}_message_length", MAX_MESSAGE_BYTES) for way in ("send", "receive")]
    server = grpc.aio.server(interceptors=[RefuseMalformed()], options=options)
    servicer = EnvServicer(service, instance, max_batch_steps=settings.max_batch_steps)
    env_pb2_grpc.add_EnvironmentServiceServicer_to_server(servicer, server)
    health_pb2_grpc.add_HealthServicer_to_server(answering.servicer, server)
    reflection.enable_server_reflection((SERVICE_NAME, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    port = server.add_insecure_port(f"{settings.host}:{settings.port}")
    reaping = asyncio.create_task(_reap_forever(service, min(REAP_EVERY_S, settings.lease_ttl_s / 4)))
    try:
        await server.start()  # first, so that health can say that the workers are not there yet
        await pool.start()
        yield f"{settings.host}:{port}"
    finally:
        answering.drain()
        await service.drain(settings.drain_s)
        reaping.cancel()
        await server.stop(grace=settings.drain_s)
        await pool.stop()
