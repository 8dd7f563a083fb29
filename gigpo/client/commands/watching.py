"""`gigpo watch`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Annotated

import typer
from pydantic import JsonValue
from rich.console import Console

from gigpo.client.commands.changing import short
from gigpo.client.commands.options import JobName
from gigpo.client.errors import FAILED, GigpoError
from gigpo.client.models import Event, JsonObject, Watch
from gigpo.client.session import DEFAULT_RUNS, ApiUrl, Runs, connected, console, emit, says_errors
from gigpo.client.synchronous import GigpoClient

CheckpointOf = Annotated[
    str | None,
    typer.Option("--checkpoint", help="The policy that plays; default: that of a running job, otherwise the newest."),
]
Seed = Annotated[int | None, typer.Option("--seed", min=0, help="Names the task; default: any.")]
Member = Annotated[str | None, typer.Option("--member", help="Member of a mixture; default: the seed names it.")]
Split = Annotated[str | None, typer.Option("--split", help="Default: the one that the job evaluates on.")]
Prompts = Annotated[bool, typer.Option("--prompts", help="Show each prompt as the policy gets it.")]
JsonLines = Annotated[bool, typer.Option("--json", help="Print each event as one line of JSON, as it comes.")]
MOST_ACTIONS = 4
"""Actions of a state that are shown beside it."""


@says_errors
def watch(
    job: JobName,
    checkpoint: CheckpointOf = None,
    seed: Seed = None,
    member: Member = None,
    split: Split = None,
    prompts: Prompts = False,
    runs: Runs = DEFAULT_RUNS,
    api: ApiUrl = None,
    json_lines: JsonLines = False,
) -> None:
    """Watch a policy play one task, step by step, with what the job's rollouts know of each state beside it.

    A running job plays beside its training, with the version that it serves. Another policy is loaded for it, as an
    evaluation of one episode, when an inference replica is free. Ctrl-C stops the episode.

    gigpo watch demo
    gigpo watch demo --checkpoint b000040 --seed 7 --prompts
    """
    words = console(json_lines)
    with connected(runs, api) as client:
        found = client.find(job)
        begun = client.watch(found.id, checkpoint=checkpoint, seed=seed, split=split, member=member)
        words.print(_opening_line(begun))
        failed = False
        with _stopped_with_us(client, begun):
            for event in client.watch_steps(begun.job_id, begun.watch_id):
                if json_lines:
                    emit(event.model_dump(), lines=True)
                else:
                    _print(event, words, prompts=prompts)
                failed = event.kind == "failed"
    if failed:
        raise typer.Exit(FAILED)


@contextmanager
def _stopped_with_us(client: GigpoClient, watch: Watch) -> Iterator[None]:
    """An interrupt of the watch stops the episode too."""
    try:
        yield
    except KeyboardInterrupt:
        with suppress(GigpoError):  # the episode is over, or ends by itself in a minute
            client.stop_watch(watch.job_id, watch.watch_id)
        raise


def _opening_line(watch: Watch) -> str:
    where = "beside its training" if watch.player_job == watch.job_id else f"as evaluation {watch.player_job}"
    who = "the version that it serves" if watch.checkpoint is None else f"checkpoint {watch.checkpoint}"
    return f"job {watch.job_id}: {who} plays task {watch.seed} of split {watch.split}, {where}"


def _print(event: Event, words: Console, *, prompts: bool) -> None:
    data = event.data
    match event.kind:
        case "waiting":
            words.print(f"waiting: {data['message']}")
        case "began":
            words.print(f"task: {data['task'] or '(none is told)'}; at most {data['max_turns']} steps")
        case "state":
            words.print(f"\nstep {data['step_index']}  {data['observation'] or data['anchor']}", style="bold")
            for line in seen_lines(data.get("seen")):
                words.print(f"  {line}", style="dim")
            if prompts:
                words.print(f"  prompt:\n{data['prompt']}")
        case "step":
            words.print("\n".join(_step_lines(data)))
        case "ended":
            words.print(f"\n{ending(data)}", style="bold")
        case "failed":
            words.print(f"the episode could not be played to its end: {data['message']}", style="red")


def _step_lines(data: JsonObject) -> list[str]:
    versions = ", ".join(map(str, data["versions"])) if isinstance(data["versions"], list) else ""
    invalid = "" if data["action_valid"] else "  (invalid)"
    lines = [f"  → {data['action'] or '(no action)'}{invalid}   reward {data['reward']:g}   version {versions}"]
    if str(data["reply"]).strip() != data["action"]:
        lines.append(f"    reply: {data['reply']}")
    return lines


def seen_lines(seen: JsonValue) -> list[str]:
    """The facts known of a state, as lines; a state without any was never seen before."""
    if not isinstance(seen, dict) or not isinstance(state := seen["state"], dict):
        return ["never seen in the stored rollouts"]
    of_task = "" if seen["of_task"] else " with other tasks"
    best = f", best action so far: {state['best_action']}" if state["best_action"] else ""
    lines = [f"{state['visits']} visits{of_task}, mean return {state['return_mean']:.3f}{best}"]
    actions = state["actions"] if isinstance(state["actions"], list) else []
    for one in actions[:MOST_ACTIONS]:
        if isinstance(one, dict):
            lines.append(f"  {one['share']:>4.0%}  return {one['return_mean']:.3f}  {short(str(one['action']))}")
    return lines


def ending(data: JsonObject) -> str:
    """How the episode ended, as a sentence."""
    how = "won" if data["won"] else "out of turns" if data["out_of_turns"] else "not won"
    return f"{how} after {data['steps']} steps, return {data['return_sum']:g}"
