"""A submission plays a job's environment a little, and tells what it finds."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from gigpo_proto.env.v1 import env_pb2

from services.api.jobs.preflight import Opening, Wanted, preflight

WANTED = Wanted("dice", "{}", "train", 2, 10)


class Refused(grpc.aio.AioRpcError):
    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details)


class Service:
    """An environment whose sessions show `shown(session, seq)`."""

    def __init__(self, shown: Any, *, actions: tuple[str, ...] = ("roll",), refusal: Refused | None = None) -> None:
        self.shown, self.actions, self.refusal = shown, actions, refusal
        self.taken: list[str] = []
        self.closed: list[str] = []

    async def OpenGroup(self, request: env_pb2.OpenGroupRequest, timeout: float) -> env_pb2.OpenGroupResponse:
        if self.refusal is not None:
            raise self.refusal
        leases = [str(number) for number in range(request.n)]
        return env_pb2.OpenGroupResponse(leases=leases, observation=self._seen("0", 0), warnings=["mind the gap"])

    async def StepBatch(self, request: env_pb2.StepBatchRequest, timeout: float) -> env_pb2.StepBatchResponse:
        self.taken += [step.action for step in request.steps]
        outcomes = [self.shown(step.lease, step.seq) for step in request.steps]
        results = [
            env_pb2.StepResult(outcome=one)
            if isinstance(one, env_pb2.Outcome)
            else env_pb2.StepResult(outcome=env_pb2.Outcome(observation=self._seen(*one)))
            for one in outcomes
        ]
        return env_pb2.StepBatchResponse(results=results)

    async def Close(self, request: env_pb2.CloseRequest, timeout: float) -> None:
        self.closed += request.leases

    def _seen(self, who: str, seq: int) -> env_pb2.Observation:
        return env_pb2.Observation(digest=f"{who}/{seq}".encode(), admissible_actions=self.actions)


async def found(service: Service, wanted: Wanted = WANTED) -> Any:
    stub: Any = service
    return await preflight(stub, wanted, 10.0)


async def test_sessions_that_show_the_same_are_no_news() -> None:
    service = Service(lambda lease, seq: ("all", seq))
    assert await found(service) == Opening(warnings=("mind the gap",))
    assert (len(service.taken), service.closed) == (8, ["0", "1"])


async def test_sessions_of_one_seed_that_differ_are_told() -> None:
    for actions, word in ((("roll",), "roll"), ((), "look")):
        told = await found(Service(lambda lease, seq: (lease if seq == 3 else "all", seq), actions=actions))
        assert told.refusal is None
        assert told.warnings[1].startswith(
            f"two sessions of one seed differ after the same 3 action(s), the last one {word!r}: "
        )


async def test_an_admissible_action_that_fails_is_told() -> None:
    broken = env_pb2.Outcome(fault=env_pb2.Fault(message="KeyError: 'die'"))
    told = await found(Service(lambda lease, seq: broken))
    assert told.warnings[1:] == ("the admissible action 'roll' fails: KeyError: 'die'",)
    assert (await found(Service(lambda lease, seq: broken, actions=()))).warnings == ("mind the gap",)


async def test_whether_actions_are_named_is_told() -> None:
    for actions in (("roll",), ()):
        assert (await found(Service(lambda lease, seq: ("all", seq), actions=actions))).names_actions == bool(actions)


async def test_a_job_of_one_episode_a_group_opens_one_session() -> None:
    service = Service(lambda lease, seq: ("all", seq))
    await found(service, WANTED._replace(n=1))
    assert (service.taken, service.closed) == ([], ["0"])


@pytest.mark.parametrize(("code", "refused"), [(grpc.StatusCode.INTERNAL, True), (grpc.StatusCode.UNAVAILABLE, False)])
async def test_what_may_go_away_is_a_warning_at_once_and_what_stays_is_a_refusal(
    code: grpc.StatusCode, refused: bool
) -> None:
    said = "Server at capacity: 1/1 sessions active"
    told = await found(Service(SimpleNamespace(), refusal=Refused(code, said)))
    if refused:
        assert told.refusal == said
    else:
        assert told == Opening(warnings=(f"dice could not be tried: UNAVAILABLE: {said}",), known=False)
