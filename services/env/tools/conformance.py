"""Runs every check of `checks.py` on an environment, on a real service with two workers."""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

import grpc
from gigpo_proto.env.v1 import env_pb2
from pydantic import JsonValue

from services.contracts.plain_errors import meant
from services.env.tools import checks
from services.env.tools.local import EnvClient, Task, local_service, status_text
from services.env.tools.plays import Subject
from services.env.workers.registry import NOT_INSTALLED

Check = Callable[[Subject], Awaitable[str]]
CHECKS: dict[str, Check] = {
    "described": checks.described,
    "kwargs": checks.kwargs_are_checked,
    "splits": checks.every_split_opens,
    "first observation": checks.first_observations_are_equal,
    "one seed": checks.one_seed_is_one_task,
    "panel": checks.panel_is_the_same_everywhere,
    "determinism": checks.same_actions_same_outcomes,
    "rebuild": checks.history_leads_to_the_same_state,
    "anchors": checks.anchors_recur,
    "state keys": checks.equal_states_admit_equal_actions,
    "rewards": checks.rewards_are_sound,
    "actions": checks.admissible_actions_are_no_fault,
    "invalid action": checks.invalid_actions_are_no_fault,
    "vocabulary": checks.vocabulary_covers_the_texts,
    "end": checks.episodes_end,
    "close": checks.closing_frees,
}


NEVER_IDLE_S = 3600.0
"""Longer than a check takes: what closing leaves behind is counted over processes that stay."""


class Result(Enum):
    """How a check came out."""

    PASSED = "passed"
    FAILED = "failed"
    WARNED = "warning"
    NOT_CLAIMED = "not claimed"
    """The environment does not say that it can do this."""
    NOT_INSTALLED = "not installed"
    NOT_TRIED = "not tried"
    """It takes kwargs that nobody gave."""


@dataclass(frozen=True)
class Finding:
    """One row of the table."""

    environment: str
    kwargs: str
    check: str
    result: Result
    note: str


async def check_environments(
    wanted: Sequence[str], report: Callable[[Finding], None], *, kwargs: Mapping[str, JsonValue] | None = None
) -> list[Finding]:
    """Check the environments of these ids, or all where none is named.

    Args:
        report: told each finding as it comes.
        kwargs: instead of the environment's own examples.

    Raises:
        LookupError: an id is unknown; the message names the known ones.
    """
    findings: list[Finding] = []

    def found(finding: Finding) -> None:
        findings.append(finding)
        report(finding)

    async with local_service(workers=2, worker_idle_s=NEVER_IDLE_S) as client:
        entries = {entry.id: entry for entry in await client.environments()}
        if unknown := [name for name in wanted if name not in entries]:
            raise LookupError(
                f"unknown environment {unknown[0]!r}; known: {', '.join(entries)}{meant(unknown[0], entries)}"
            )
        for name in wanted or entries:
            await _check(client, entries[name], kwargs, found)
    return findings


async def _check(
    client: EnvClient,
    entry: env_pb2.EnvironmentInfo,
    kwargs: Mapping[str, JsonValue] | None,
    found: Callable[[Finding], None],
) -> None:
    if entry.unavailable_reason:
        missing = entry.unavailable_reason.startswith(NOT_INSTALLED)
        result = Result.NOT_INSTALLED if missing else Result.FAILED
        found(Finding(entry.id, "", "available", result, entry.unavailable_reason.removeprefix(NOT_INSTALLED)))
        return
    examples = json.loads(entry.example_kwargs_json) if kwargs is None else [kwargs]
    if not examples:
        found(Finding(entry.id, "", "available", Result.NOT_TRIED, "it has no example kwargs: give --kwargs"))
    for example in examples:
        subject = Subject(client, entry, Task(entry.id, example))
        for name, check in CHECKS.items():
            result, note = await _outcome(check, subject)
            found(Finding(entry.id, json.dumps(example), name, result, note))


async def _outcome(check: Check, subject: Subject) -> tuple[Result, str]:
    try:
        return Result.PASSED, await check(subject)
    except checks.NotClaimed as why:
        return Result.NOT_CLAIMED, str(why)
    except checks.CheckWarned as why:
        return Result.WARNED, str(why)
    except checks.CheckFailed as why:
        return Result.FAILED, str(why)
    except grpc.aio.AioRpcError as error:
        return Result.FAILED, status_text(error)
