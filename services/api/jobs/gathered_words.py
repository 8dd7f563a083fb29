"""Gathers the words of an environment without a vocabulary by playing it with random admissible actions.

A policy from scratch has a word tokenizer, so its words must be known before it is made. Seeds and choices are fixed:
the same environment and kwargs give the same words.
"""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Iterator, Sequence

from gigpo_proto.env.v1 import env_pb2, env_pb2_grpc

TASKS_AT_ONCE = 32
"""Sessions held meanwhile: few beside the 1,024 that a service has room for."""
QUIET_ROUNDS, MOST_ROUNDS = 4, 32
"""128 episodes without a new word end the play; 1,024 episodes with new ones to the last say that words never end."""
MOST_WORDS = 8_192
LONGEST_S = 25.0
"""Shorter than a client waits for an answer."""


class WordsUnknown(Exception):
    """The words cannot be gathered; the message says why."""


async def gathered_words(
    stub: env_pb2_grpc.EnvironmentServiceAsyncStub, environment: str, kwargs_json: str, splits: Sequence[str]
) -> list[str]:
    """Every word that random episodes showed, sorted.

    Args:
        splits: tasks are drawn from each.

    Raises:
        WordsUnknown: no admissible actions are named, words never end, or it takes too long.
        grpc.aio.AioRpcError: a session cannot be opened.
    """
    words: set[str] = set()
    quiet = 0
    try:
        async with asyncio.timeout(LONGEST_S):
            for tasks in _rounds(environment, kwargs_json, splits):
                known = len(words)
                await _play(stub, tasks, words)
                quiet = quiet + 1 if len(words) == known else 0
                if quiet == QUIET_ROUNDS:
                    return sorted(words)
                if len(words) > MOST_WORDS:
                    break
    except TimeoutError as error:
        raise WordsUnknown(f"playing it for {LONGEST_S:g} s did not show all of its words") from error
    raise WordsUnknown(f"{len(words):,} words were seen, and new ones never ended")


def _rounds(environment: str, kwargs_json: str, splits: Sequence[str]) -> Iterator[list[env_pb2.OpenGroupRequest]]:
    for first in range(0, MOST_ROUNDS * TASKS_AT_ONCE, TASKS_AT_ONCE):
        yield [
            env_pb2.OpenGroupRequest(
                idempotency_key=f"words:{uuid.uuid4().hex}",
                environment=environment,
                kwargs_json=kwargs_json,
                split=splits[seed % len(splits)],
                seed=seed,
                n=1,
            )
            for seed in range(first, first + TASKS_AT_ONCE)
        ]


async def _play(
    stub: env_pb2_grpc.EnvironmentServiceAsyncStub, tasks: Sequence[env_pb2.OpenGroupRequest], words: set[str]
) -> None:
    """Play one episode of each task to its end, side by side; what they show goes into `words`."""
    opened = await asyncio.gather(*(stub.OpenGroup(task) for task in tasks), return_exceptions=True)
    groups = [group for group in opened if not isinstance(group, BaseException)]
    leases = {group.leases[0]: group.observation for group in groups}
    try:
        if failed := [error for error in opened if isinstance(error, BaseException)]:
            raise failed[0]
        plan, seq = random.Random(f"words/{tasks[0].seed}"), 0
        while leases:
            seq += 1
            words.update(word for seen in leases.values() for word in _words(seen))
            steps = [
                env_pb2.StepRequest(lease=lease, seq=seq, action=_chosen(seen, plan)) for lease, seen in leases.items()
            ]
            answer = await stub.StepBatch(env_pb2.StepBatchRequest(steps=steps))
            ended = [result for result in answer.results if not _goes_on(result)]
            words.update(word for result in ended for word in _words(result.outcome.observation))
            leases = {result.lease: result.outcome.observation for result in answer.results if _goes_on(result)}
    finally:
        await stub.Close(env_pb2.CloseRequest(leases=list(leases)))


def _chosen(seen: env_pb2.Observation, plan: random.Random) -> str:
    if not seen.admissible_actions:
        raise WordsUnknown("its observations name no admissible actions, so nobody can play it at random")
    return plan.choice(seen.admissible_actions)


def _words(seen: env_pb2.Observation) -> Iterator[str]:
    for text in (seen.text, seen.task, *seen.admissible_actions):
        yield from text.split()


def _goes_on(result: env_pb2.StepResult) -> bool:
    outcome = result.outcome
    return result.HasField("outcome") and not (outcome.HasField("fault") or outcome.terminated or outcome.truncated)
