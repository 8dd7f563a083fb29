"""The catalogue of environments: queries the environment service for the API."""

from __future__ import annotations

import json
from collections.abc import Mapping

import grpc
from gigpo_proto.env.v1 import env_pb2, env_pb2_grpc

from services.api.jobs.gathered_words import WordsUnknown, gathered_words
from services.api.jobs.preflight import REFUSALS, Opening, Wanted, preflight
from services.api.jobs.ttl_cache import Remembered
from services.api.rest.problems import Problem
from services.contracts.environment import EnvironmentInfo
from services.contracts.job import JobSpec
from services.contracts.rest.catalogue import EnvironmentView

_MAX_MESSAGE_BYTES = 64 << 20  # vocabularies of many environments in one answer
_OPTIONS = [("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES), ("grpc.initial_reconnect_backoff_ms", 200)]
_KEEP_LIST_S, _KEEP_OPENED_S = 5.0, 60.0
"""How long an answer is good: a service that restarts with other environments is noticed within seconds."""


class EnvironmentCatalogue:
    """Asks the environment service, and remembers for a while what it answered.

    Args:
        address: host:port.
        timeout_s: longest wait for one answer, a reconnect included.
    """

    def __init__(self, address: str, timeout_s: float) -> None:
        self._channel = grpc.aio.insecure_channel(address, options=_OPTIONS)
        self._stub = env_pb2_grpc.EnvironmentServiceStub(self._channel)  # type: ignore[no-untyped-call,unused-ignore]
        self._address, self._timeout_s = address, timeout_s
        self._lists = Remembered[None, list[EnvironmentView]](lambda _: self.ask(), keep_s=_KEEP_LIST_S)
        self._opened = Remembered[Wanted, Opening](
            lambda wanted: preflight(self._stub, wanted, timeout_s),
            keep_s=_KEEP_OPENED_S,
            worth_keeping=lambda opening: opening.known and opening.refusal is None,
        )
        self._words = Remembered[tuple[str, str, tuple[str, ...]], tuple[str, ...]](self._gather, keep_s=_KEEP_OPENED_S)

    async def ask(self) -> list[EnvironmentView]:
        """Everything that the service knows now, in order of id. Raises Problem 503 when it does not answer."""
        try:
            answer = await self._stub.ListEnvironments(
                env_pb2.ListEnvironmentsRequest(), timeout=self._timeout_s, wait_for_ready=True
            )
        except grpc.aio.AioRpcError as error:
            sentence = f"the environment service at {self._address} does not answer: {error.code().name}"
            raise Problem(503, sentence, headers={"Retry-After": "2"}) from error
        return [_view(entry) for entry in answer.environments]

    async def list(self) -> list[EnvironmentView]:
        """As `ask`; the answer may be some seconds old."""
        return await self._lists.get(None)

    async def opening(self, spec: JobSpec, kwargs: Mapping[str, object]) -> Opening:
        """What the environment says of a job's kwargs: two sessions are opened, played a little, and closed again.

        A service that is full or slow refuses nothing: what can't be known now shows when the job runs.
        """
        wanted, single = spec.environment, not spec.environment.use_gym_env  # a reply is scored by the job's functions
        n = 1 if single else min(spec.rollout.num_generations, 2)
        kwargs_json = json.dumps(dict(kwargs), sort_keys=True)
        return await self._opened.get(Wanted(wanted.environment, kwargs_json, wanted.train_split, n, wanted.max_turns))

    async def words(self, environment: str, kwargs: Mapping[str, object], splits: tuple[str, ...]) -> tuple[str, ...]:
        """Every word of an environment that names no vocabulary, found by playing it.

        Raises:
            WordsUnknown.
            Problem: 503, the service is full or does not answer.
        """
        return await self._words.get((environment, json.dumps(kwargs, sort_keys=True), splits))

    async def _gather(self, wanted: tuple[str, str, tuple[str, ...]]) -> tuple[str, ...]:
        try:
            return tuple(await gathered_words(self._stub, *wanted))
        except grpc.aio.AioRpcError as error:
            if error.code() in REFUSALS:
                raise WordsUnknown(str(error.details())) from error
            sentence = f"the environment service has no room to gather the words of {wanted[0]}: {error.code().name}"
            raise Problem(503, sentence, headers={"Retry-After": "5"}) from error

    async def close(self) -> None:
        await self._channel.close(grace=None)


def _view(entry: env_pb2.EnvironmentInfo) -> EnvironmentView:
    return EnvironmentView(info=EnvironmentInfo.listed(entry), unavailable_reason=entry.unavailable_reason)
