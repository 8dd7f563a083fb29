"""A person plays an episode, in a terminal or through a pipe."""

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from typing import TextIO, TypedDict

from gigpo_proto.env.v1 import env_pb2
from pydantic import JsonValue

from services.env.tools.local import EnvClient, Task, local_service

SHOWN_ACTIONS = 60
"""Most admissible actions that are listed."""
QUIT = {"quit", "exit"}


class ObservationDocument(TypedDict):
    """An observation of the agent. Digests are hexadecimal."""

    text: str
    anchor: str
    anchor_key: str
    state_key: str
    task: str
    admissible_actions: list[str]


class StepDocument(TypedDict):
    """One action and what came of it."""

    action: str
    observation: ObservationDocument
    reward: float
    score: float
    won: bool
    terminated: bool
    truncated: bool
    action_valid: bool


class Transcript(TypedDict):
    """An episode from its first observation on."""

    environment: str
    kwargs: dict[str, JsonValue]
    split: str
    seed: int
    first: ObservationDocument
    steps: list[StepDocument]
    score: float
    won: bool


class Lines:
    """Lines of a file descriptor as they come. The loop goes on meanwhile, and Ctrl-C works at once."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._read = b""
        self._ended = False

    async def next(self) -> str | None:
        """The next line without its end; None after the last."""
        while b"\n" not in self._read and not self._ended:
            await self._readable()
            chunk = os.read(self._descriptor, 4096)
            self._read += chunk
            self._ended = not chunk
        if not self._read:
            return None
        line, _, self._read = self._read.partition(b"\n")
        return line.decode(errors="replace")

    async def _readable(self) -> None:
        loop, ready = asyncio.get_running_loop(), asyncio.Event()
        try:
            loop.add_reader(self._descriptor, ready.set)
        except PermissionError:  # a file on disk: it never keeps anybody waiting
            return
        try:
            await ready.wait()
        finally:
            loop.remove_reader(self._descriptor)


async def play_episode(
    environment: str, kwargs: Mapping[str, JsonValue] | None, *, split: str, seed: int, words: TextIO
) -> Transcript:
    """Show and ask until the episode or the input ends, and return what was done.

    Args:
        kwargs: None: the environment's first example.
        words: where everything is shown.
    """
    async with local_service(workers=1, lease_ttl_s=86_400.0) as client:
        task = Task(environment, await _chosen_kwargs(client, environment) if kwargs is None else kwargs, split, seed)
        group = await client.open(task, 1)
        first = group.observation
        words.write(f"{environment} {json.dumps(dict(task.kwargs))} seed {seed}\n")
        if first.task:
            words.write(f"task: {first.task}\n")
        steps = await _steps(client, group.leases[0], first, words)
        await client.close(group.leases)

    return {
        "environment": environment,
        "kwargs": dict(task.kwargs),
        "split": split,
        "seed": seed,
        "first": _document(first),
        "steps": steps,
        "score": steps[-1]["score"] if steps else 0.0,
        "won": bool(steps) and steps[-1]["won"],
    }


async def _chosen_kwargs(client: EnvClient, environment: str) -> Mapping[str, JsonValue]:
    entries = {entry.id: entry for entry in await client.environments()}
    examples = json.loads(entries[environment].example_kwargs_json) if environment in entries else []
    return dict(examples[0]) if examples else {}


async def _steps(client: EnvClient, lease: str, seen: env_pb2.Observation, words: TextIO) -> list[StepDocument]:
    steps: list[StepDocument] = []
    lines = Lines(sys.stdin.fileno())
    while True:
        _show(seen, words)
        action = await _asked(seen, lines, words)
        if action is None:
            words.write(f"\nleft after {len(steps)} steps\n")
            return steps
        outcome = await client.step(lease, len(steps) + 1, action)
        if outcome.HasField("fault"):
            words.write(f"fault {env_pb2.FaultClass.Name(outcome.fault.fault_class)}: {outcome.fault.message}\n")
            return steps
        seen = outcome.observation
        steps.append(_step_document(action, outcome))
        valid = "" if outcome.action_valid else "not a valid action; "
        words.write(f"{valid}reward {outcome.reward:g}, score {outcome.score:g}\n")
        if outcome.terminated or outcome.truncated:
            _show(seen, words)
            end = "won" if outcome.won else "out of turns" if outcome.truncated else "over, not won"
            words.write(f"{end} after {len(steps)} steps, score {outcome.score:g}\n")
            return steps


def _show(seen: env_pb2.Observation, words: TextIO) -> None:
    words.write(f"\n{seen.text}\n")
    if seen.anchor != seen.text:
        words.write(f"  anchor: {seen.anchor}\n")
    for number, action in enumerate(seen.admissible_actions[:SHOWN_ACTIONS], start=1):
        words.write(f"  {number:>3}  {action}\n")
    if (more := len(seen.admissible_actions) - SHOWN_ACTIONS) > 0:
        words.write(f"  ... and {more} more\n")


async def _asked(seen: env_pb2.Observation, lines: Lines, words: TextIO) -> str | None:
    """The next action; None where there is none. A number names an admissible action that is no number itself."""
    words.write("> ")
    words.flush()
    line = await lines.next()
    text = (line or "").strip()
    if line is None or text in QUIT:
        return None
    if not sys.stdin.isatty():
        words.write(f"{text}\n")
    able = list(seen.admissible_actions)
    if text.isdecimal() and text not in able and 1 <= int(text) <= len(able):
        return able[int(text) - 1]
    return text


def _document(seen: env_pb2.Observation) -> ObservationDocument:
    return {
        "text": seen.text,
        "anchor": seen.anchor,
        "anchor_key": seen.anchor_key.hex(),
        "state_key": seen.state_key.hex(),
        "task": seen.task,
        "admissible_actions": list(seen.admissible_actions),
    }


def _step_document(action: str, outcome: env_pb2.Outcome) -> StepDocument:
    return {
        "action": action,
        "observation": _document(outcome.observation),
        "reward": outcome.reward,
        "score": outcome.score,
        "won": outcome.won,
        "terminated": outcome.terminated,
        "truncated": outcome.truncated,
        "action_valid": outcome.action_valid,
    }
