"""The gRPC edge: translates requests, answers and errors, nothing else."""

import asyncio
from collections.abc import AsyncIterator
from typing import NoReturn

import grpc
from gigpo.env.v1 import env_pb2, env_pb2_grpc

from services.env.errors import EnvServiceError
from services.env.service import EnvService
from services.env.translation import (
    environment_message,
    observation_message,
    outcome_message,
    refusal,
    retry_after_ms,
    status_of,
)
from services.env.wire import EpisodeSpec

STREAM_STEPS_IN_FLIGHT = 1024
"""Steps that one stream may have under way; further requests wait in the transport."""

Context = grpc.aio.ServicerContext[object, object]


async def _abort(context: Context, error: EnvServiceError) -> NoReturn:
    hint = retry_after_ms(error)
    metadata = (("retry-after-ms", str(hint)),) if hint else ()
    await context.abort(status_of(error), str(error), metadata)
    raise AssertionError("abort does not return")


class EnvServicer(env_pb2_grpc.EnvironmentServiceServicer):
    """Serves gigpo.env.v1.EnvironmentService."""

    def __init__(self, service: EnvService, *, max_batch_steps: int) -> None:
        self._service = service
        self._max_batch_steps = max_batch_steps

    async def ListEnvironments(
        self, request: env_pb2.ListEnvironmentsRequest, context: Context
    ) -> env_pb2.ListEnvironmentsResponse:
        entries = await self._service.list_environments()
        return env_pb2.ListEnvironmentsResponse(environments=[environment_message(entry) for entry in entries])

    async def OpenGroup(self, request: env_pb2.OpenGroupRequest, context: Context) -> env_pb2.OpenGroupResponse:
        spec = EpisodeSpec(request.environment, request.kwargs_json, request.split, request.seed)
        try:
            group = await self._service.open_group(request.idempotency_key, spec, request.n)
        except EnvServiceError as error:
            await _abort(context, error)
        observation = observation_message(group.observation)
        return env_pb2.OpenGroupResponse(leases=group.leases, observation=observation, ttl_s=self._service.ttl_s)

    async def Step(self, request: env_pb2.StepRequest, context: Context) -> env_pb2.StepResponse:
        try:
            answer = await self._service.step(request.lease, request.seq, request.action, request.response_tokens)
        except EnvServiceError as error:
            await _abort(context, error)
        return env_pb2.StepResponse(outcome=outcome_message(answer))

    async def StepBatch(self, request: env_pb2.StepBatchRequest, context: Context) -> env_pb2.StepBatchResponse:
        if len(request.steps) > self._max_batch_steps:
            problem = f"steps: want at most {self._max_batch_steps}, got {len(request.steps)}"
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, problem)
        results = await asyncio.gather(*(self._result(step) for step in request.steps))
        return env_pb2.StepBatchResponse(results=results)

    async def StepStream(
        self, request_iterator: AsyncIterator[env_pb2.StepRequest], context: Context
    ) -> AsyncIterator[env_pb2.StepResult]:
        ready: asyncio.Queue[env_pb2.StepResult | None] = asyncio.Queue()
        room = asyncio.Semaphore(STREAM_STEPS_IN_FLIGHT)

        async def answer(step: env_pb2.StepRequest) -> None:
            ready.put_nowait(await self._result(step))
            room.release()

        async def read() -> None:
            async with asyncio.TaskGroup() as steps:
                async for step in request_iterator:
                    await room.acquire()
                    steps.create_task(answer(step))
            ready.put_nowait(None)

        reading = asyncio.create_task(read())
        try:
            while (result := await ready.get()) is not None:
                yield result
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def Renew(self, request: env_pb2.RenewRequest, context: Context) -> env_pb2.RenewResponse:
        unknown = self._service.renew(list(request.leases))
        return env_pb2.RenewResponse(ttl_s=self._service.ttl_s, unknown=unknown)

    async def Close(self, request: env_pb2.CloseRequest, context: Context) -> env_pb2.CloseResponse:
        return env_pb2.CloseResponse(closed=self._service.close(list(request.leases)))

    async def _result(self, step: env_pb2.StepRequest) -> env_pb2.StepResult:
        try:
            answer = await self._service.step(step.lease, step.seq, step.action, step.response_tokens)
        except EnvServiceError as error:
            return env_pb2.StepResult(lease=step.lease, seq=step.seq, refusal=refusal(error))
        return env_pb2.StepResult(lease=step.lease, seq=step.seq, outcome=outcome_message(answer))
