"""The catalogue of environments: queries the environment service for the API."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from contextlib import suppress

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
_ASK_AGAIN_S = 0.2


class EnvironmentCatalogue:
    """Asks an environment service, and remembers for a while what it answered.

    Args:
        addresses: host:port, several with commas between them. The one that answered last is asked first.
        timeout_s: longest wait for one answer, a reconnect included.
    """

    def __init__(self, addresses: str, timeout_s: float) -> None:
        self._channels = {
            one.strip(): grpc.aio.insecure_channel(one.strip(), options=_OPTIONS) for one in addresses.split(",")
        }
        self._stubs = [
            env_pb2_grpc.EnvironmentServiceStub(channel)  # type: ignore[no-untyped-call,unused-ignore]
            for channel in self._channels.values()
        ]
        self._timeout_s = timeout_s
        self._lists = Remembered[None, list[EnvironmentView]](lambda _: self.ask(), keep_s=_KEEP_LIST_S)
        self._opened = Remembered[Wanted, Opening](
            self._open,
            keep_s=_KEEP_OPENED_S,
            worth_keeping=lambda opening: opening.known and opening.refusal is None,
        )
        self._words = Remembered[tuple[str, str, tuple[str, ...]], tuple[str, ...]](self._gather, keep_s=_KEEP_OPENED_S)

    async def ask(self) -> list[EnvironmentView]:
        """Everything that a service knows now, in order of id. Raises Problem 503 when none answers."""
        end = time.monotonic() + self._timeout_s
        while True:
            for stub in list(self._stubs):
                try:
                    answer = await stub.ListEnvironments(env_pb2.ListEnvironmentsRequest(), timeout=self._timeout_s)
                except grpc.aio.AioRpcError as error:
                    failure = error
                    continue
                self._stubs.sort(key=lambda one, first=stub: one is not first)  # type: ignore[misc]
                return [_view(entry) for entry in answer.environments]
            if time.monotonic() >= end:
                sentence = f"the environment service at {', '.join(self._channels)} does not answer: "
                raise Problem(503, sentence + failure.code().name, headers={"Retry-After": "2"}) from failure
            await asyncio.sleep(_ASK_AGAIN_S)

    async def list(self) -> list[EnvironmentView]:
        """The answer of `ask`; it may be some seconds old."""
        return await self._lists.get(None)

    async def opening(self, spec: JobSpec, kwargs: Mapping[str, object]) -> Opening:
        """The environment's answer to a job's kwargs: two sessions are opened, played a little, and closed again.

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

    async def _open(self, wanted: Wanted) -> Opening:
        asked = self._stubs[0]
        opening = await preflight(asked, wanted, self._timeout_s)
        if opening.known or not await self._moved_on(asked):
            return opening
        return await preflight(self._stubs[0], wanted, self._timeout_s)

    async def _gather(self, wanted: tuple[str, str, tuple[str, ...]]) -> tuple[str, ...]:
        asked = self._stubs[0]
        try:
            return tuple(await gathered_words(asked, *wanted))
        except grpc.aio.AioRpcError as error:
            if error.code() in REFUSALS:
                raise WordsUnknown(str(error.details())) from error
            if await self._moved_on(asked):
                return await self._gather(wanted)
            sentence = f"the environment service has no room to gather the words of {wanted[0]}: {error.code().name}"
            raise Problem(503, sentence, headers={"Retry-After": "5"}) from error

    async def _moved_on(self, asked: env_pb2_grpc.EnvironmentServiceAsyncStub) -> bool:
        """Whether the one that was asked does not answer any more, and another one does."""
        with suppress(Problem):
            await self.ask()
        return self._stubs[0] is not asked

    async def close(self) -> None:
        for channel in self._channels.values():
            await channel.close(grace=None)


def _view(entry: env_pb2.EnvironmentInfo) -> EnvironmentView:
    return EnvironmentView(info=EnvironmentInfo.listed(entry), unavailable_reason=entry.unavailable_reason)
