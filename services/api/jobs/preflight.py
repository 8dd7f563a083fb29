"""A job's environment, tried at submission: two sessions of one seed are opened and take the same actions."""

from __future__ import annotations

import random
import uuid
from typing import NamedTuple

import grpc
from gigpo_proto.env.v1 import env_pb2, env_pb2_grpc

STEPS = 4
"""Enough to meet what a first step draws, few enough for a submission to wait for."""
MEANINGLESS = "look"
"""Said where no action is known to be admissible."""
REFUSALS = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INTERNAL}
"""Wrong kwargs, unknown environment, and an environment that fails in reset."""


class Opening(NamedTuple):
    """An environment's answer to a job's kwargs."""

    refusal: str | None = None
    """Why it cannot be opened with them; None: it can, as far as is known now."""
    warnings: tuple[str, ...] = ()
    tools_json: str = ""
    """A JSON array of the tools that its sessions have; empty: none."""
    names_actions: bool = True
    """False: its first observation names no admissible actions."""
    known: bool = True
    """False: the service is full or slow, and may answer otherwise soon."""


class Wanted(NamedTuple):
    """The session that is tried."""

    environment: str
    kwargs_json: str
    split: str
    n: int
    """Sessions that a group of the job has, as far as two."""
    turns: int


async def preflight(stub: env_pb2_grpc.EnvironmentServiceAsyncStub, wanted: Wanted, timeout_s: float) -> Opening:
    """Open a group, play it, close it again.

    Args:
        timeout_s: longest wait for one answer.
    """
    request = env_pb2.OpenGroupRequest(
        idempotency_key=f"check:{uuid.uuid4().hex}",
        environment=wanted.environment,
        kwargs_json=wanted.kwargs_json,
        split=wanted.split,
        n=wanted.n,
    )
    try:
        opened = await stub.OpenGroup(request, timeout=timeout_s)
    except grpc.aio.AioRpcError as error:
        if error.code() in REFUSALS:
            return Opening(error.details())
        said = f"{error.code().name}: {error.details()}"
        return Opening(warnings=(f"{wanted.environment} could not be tried: {said}",), known=False)
    warnings, names_actions = tuple(opened.warnings), bool(opened.observation.admissible_actions)
    try:
        if wanted.n > 1 and (difference := await _difference(stub, opened, wanted.turns, timeout_s)):
            warnings += (difference,)
        await stub.Close(env_pb2.CloseRequest(leases=opened.leases), timeout=timeout_s)
    except grpc.aio.AioRpcError:  # it was opened; the leases end by themselves
        return Opening(None, warnings, opened.tools_json, names_actions, known=False)
    return Opening(None, warnings, opened.tools_json, names_actions)


async def _difference(
    stub: env_pb2_grpc.EnvironmentServiceAsyncStub, opened: env_pb2.OpenGroupResponse, turns: int, timeout_s: float
) -> str | None:
    """A difference between two sessions of one seed after the same actions, or their failure; None: nothing differs."""
    plan, seen = random.Random(0), opened.observation
    for seq in range(1, min(turns, STEPS) + 1):
        action = plan.choice(list(seen.admissible_actions) or [MEANINGLESS])
        steps = [env_pb2.StepRequest(lease=lease, seq=seq, action=action) for lease in opened.leases]
        results = (await stub.StepBatch(env_pb2.StepBatchRequest(steps=steps), timeout=timeout_s)).results
        outcomes = [result.outcome for result in results if result.WhichOneof("result") == "outcome"]
        if len(outcomes) < len(results):
            return None  # the service has no room, or was too slow
        failed = [outcome.fault.message for outcome in outcomes if outcome.HasField("fault")]
        if failed:
            return f"the admissible action {action!r:.80} fails: {failed[0]}" if seen.admissible_actions else None
        if len({(shown.observation.digest, shown.reward, shown.terminated) for shown in outcomes}) > 1:
            return (
                f"two sessions of one seed differ after the same {seq} action(s), the last one {action!r:.80}: the "
                "episodes of a group would play different tasks. Let all that is random follow from the seed of reset"
            )
        seen = outcomes[0].observation
        if outcomes[0].terminated or outcomes[0].truncated:
            break
    return None
