"""The gRPC edge: translates requests, answers and errors, nothing else."""

import asyncio
from collections.abc import AsyncIterator
from typing import NoReturn

import grpc
from gigpo_proto.env.v1 import env_pb2, env_pb2_grpc

from services.env.edge.streamed_steps import StreamedSteps
from services.env.edge.translation import (
    environment_message,
    observation_message,
    outcome_message,
    retry_after_ms,
    status_of,
    step_result,
)
from services.env.sessions.errors import EnvServiceError
from services.env.sessions.leases import Group
from services.env.sessions.service import EnvService
from services.env.workers.wire import EpisodeSpec, History
from services.kit.tasks import ended

MAX_DETAILS = 2000
MAX_FOREIGN_DETAILS = 500
"""Characters of an error's sentence. It travels in the trailing metadata, which clients limit to 8 KiB, and there a
character beyond ASCII takes up to 12 bytes."""

Context = grpc.aio.ServicerContext[object, object]


async def _abort(context: Context, error: EnvServiceError) -> NoReturn:
    hint = retry_after_ms(error)
    metadata = (("retry-after-ms", str(hint)),) if hint else ()
    sentence = str(error)
    sentence = sentence[: MAX_DETAILS if sentence.isascii() else MAX_FOREIGN_DETAILS]
    await context.abort(status_of(error), sentence, metadata)
    raise AssertionError("abort does not return")


class EnvServicer(env_pb2_grpc.EnvironmentServiceServicer):
    """Serves gigpo.env.v1.EnvironmentService.

    Args:
        instance: name of this process, another one at each start.
    """

    def __init__(self, service: EnvService, instance: str, *, max_batch_steps: int) -> None:
        self._service, self._instance = service, instance
        self._max_batch_steps = max_batch_steps

    async def GetInstance(self, request: env_pb2.GetInstanceRequest, context: Context) -> env_pb2.GetInstanceResponse:
        load = self._service.load()
        return env_pb2.GetInstanceResponse(
            instance=self._instance, draining=load.draining, leases=load.leases, max_leases=load.max_leases
        )

    async def ListEnvironments(
        self, request: env_pb2.ListEnvironmentsRequest, context: Context
    ) -> env_pb2.ListEnvironmentsResponse:
        try:
            entries = await self._service.list_environments()
        except EnvServiceError as error:
            await _abort(context, error)
        return env_pb2.ListEnvironmentsResponse(environments=[environment_message(entry) for entry in entries])

    async def OpenGroup(self, request: env_pb2.OpenGroupRequest, context: Context) -> env_pb2.OpenGroupResponse:
        group = await self._opened(request, History(), context)
        observation = observation_message(group.observation)
        return env_pb2.OpenGroupResponse(
            leases=group.leases,
            observation=observation,
            ttl_s=self._service.ttl_s,
            warnings=group.warnings,
            tools_json=group.tools_json,
            longest_call_s=group.longest_call_s,
        )

    async def Rebuild(self, request: env_pb2.RebuildRequest, context: Context) -> env_pb2.RebuildResponse:
        history = History(tuple(request.actions), tuple(request.digests), tuple(request.response_tokens))
        group = await self._opened(request.start, history, context)
        return env_pb2.RebuildResponse(
            leases=group.leases,
            observation=observation_message(group.observation),
            ttl_s=self._service.ttl_s,
            seq=len(history.actions),
            score=group.score,
        )

    async def Step(self, request: env_pb2.StepRequest, context: Context) -> env_pb2.StepResponse:
        try:
            answer = await self._service.step(request.lease, request.seq, request.action, request.response_tokens)
        except EnvServiceError as error:
            await _abort(context, error)
        return env_pb2.StepResponse(outcome=outcome_message(answer))

    async def StepBatch(self, request: env_pb2.StepBatchRequest, context: Context) -> env_pb2.StepBatchResponse:
        if problem := self._batch_problem(request):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, problem)
        answers = await self._service.step_all(
            (step.lease, step.seq, step.action, step.response_tokens) for step in request.steps
        )
        results = [step_result(step, answer) for step, answer in zip(request.steps, answers, strict=True)]
        return env_pb2.StepBatchResponse(results=results)

    async def StepStream(
        self, request_iterator: AsyncIterator[env_pb2.StepBatchRequest], context: Context
    ) -> AsyncIterator[env_pb2.StepBatchResponse]:
        stream = StreamedSteps(self._service)
        reading = asyncio.create_task(self._read_steps(request_iterator, stream))
        try:
            async for results in stream.results():
                yield env_pb2.StepBatchResponse(results=results)
            if problem := await reading:
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, problem)
        finally:
            await ended([reading])

    async def Renew(self, request: env_pb2.RenewRequest, context: Context) -> env_pb2.RenewResponse:
        unknown = self._service.renew(list(request.leases))
        return env_pb2.RenewResponse(ttl_s=self._service.ttl_s, unknown=unknown)

    async def Close(self, request: env_pb2.CloseRequest, context: Context) -> env_pb2.CloseResponse:
        return env_pb2.CloseResponse(closed=self._service.close(list(request.leases)))

    async def _opened(self, request: env_pb2.OpenGroupRequest, history: History, context: Context) -> Group:
        spec = EpisodeSpec(request.environment, request.kwargs_json, request.split, request.seed)
        try:
            return await self._service.open_group(request.idempotency_key, spec, request.n, history=history)
        except EnvServiceError as error:
            await _abort(context, error)

    def _batch_problem(self, request: env_pb2.StepBatchRequest) -> str:
        """The faults of a batch; empty: none."""
        if len(request.steps) <= self._max_batch_steps:
            return ""
        return f"steps: want at most {self._max_batch_steps}, got {len(request.steps)}"

    async def _read_steps(self, requests: AsyncIterator[env_pb2.StepBatchRequest], stream: StreamedSteps) -> str:
        """Take what comes in. A request that is wrong ends the reading; what is wrong with it comes back."""
        try:
            async for request in requests:
                if problem := self._batch_problem(request):
                    return problem
                await stream.take(request.steps)
        finally:
            stream.end()
        return ""
