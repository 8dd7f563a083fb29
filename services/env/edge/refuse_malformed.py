"""Answers requests that cannot be parsed with INVALID_ARGUMENT: they are mistakes of the caller."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import grpc
from google.protobuf.message import DecodeError

Handler = Any
"""grpc's RpcMethodHandler, a named tuple."""
Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[Handler]]
Context: TypeAlias = "grpc.aio.ServicerContext[object, object]"
Unary = Callable[[object, Context], Awaitable[object]]
Streaming = Callable[[AsyncIterator[object], Context], AsyncIterator[object]]


@dataclass(frozen=True)
class _Malformed:
    problem: str


class RefuseMalformed(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    """Answers bytes that do not parse, strings that are no UTF-8 among them, with INVALID_ARGUMENT."""

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler:
        """The method's handler, with a parser that does not raise."""
        handler = await continuation(handler_call_details)
        if handler is None or handler.request_deserializer is None:
            return handler
        parse = handler.request_deserializer

        def parsed(body: bytes) -> object:
            try:
                return parse(body)
            except DecodeError as error:
                return _Malformed(f"the request is no message of {handler_call_details.method}: {error}")

        guarded = handler._replace(request_deserializer=parsed)
        if handler.unary_unary:
            return guarded._replace(unary_unary=_unary(handler.unary_unary))
        if handler.stream_stream:
            return guarded._replace(stream_stream=_streaming(handler.stream_stream))
        return handler


def _unary(answer: Unary) -> Unary:
    async def guarded(request: object, context: Context) -> object:
        if isinstance(request, _Malformed):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, request.problem)
        return await answer(request, context)

    return guarded


def _streaming(
    answer: Streaming,
) -> Streaming:
    async def guarded(requests: AsyncIterator[object], context: Context) -> AsyncIterator[object]:
        malformed: list[_Malformed] = []

        async def sound() -> AsyncIterator[object]:
            async for request in requests:
                if isinstance(request, _Malformed):
                    malformed.append(request)
                    return
                yield request

        async for response in answer(sound(), context):
            yield response
        if malformed:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, malformed[0].problem)

    return guarded
