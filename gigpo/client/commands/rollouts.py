"""`gigpo rollouts`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from gigpo.client.commands.options import JobName, Limit
from gigpo.client.errors import BadInput
from gigpo.client.models import Episode, RolloutDetail
from gigpo.client.session import DEFAULT_RUNS, ApiUrl, Json, Runs, connected, console, emit, says_errors

app = typer.Typer(no_args_is_help=True, help="The agent's episodes, and the reason for each step's advantage.")

Batch = Annotated[int | None, typer.Option("--batch", min=0, help="Only groups of this batch.")]
Won = Annotated[str | None, typer.Option("--won", metavar="all|some|none", help="How many episodes succeeded.")]
Shortest = Annotated[int | None, typer.Option("--min-length", min=0, help="An episode has at least so many steps.")]
Longest = Annotated[int | None, typer.Option("--max-length", min=0, help="An episode has at most so many steps.")]
Label = Annotated[
    str | None, typer.Option("--evaluation", metavar="LABEL", help="Those of an evaluation, e.g. after; not trained.")
]
GroupId = Annotated[str, typer.Argument(metavar="GROUP", help="A group's id, as `gigpo rollouts list` shows it.")]
OnlyEpisode = Annotated[int | None, typer.Option("--episode", min=0, metavar="K", help="Only this episode.")]
Texts = Annotated[bool, typer.Option("--texts", help="Prompt and response of each step, too.")]


@app.command("list")
@says_errors
def list_rollouts(
    job: JobName,
    batch: Batch = None,
    won: Won = None,
    min_length: Shortest = None,
    max_length: Longest = None,
    label: Label = None,
    limit: Limit = 20,
    runs: Runs = DEFAULT_RUNS,
    api: ApiUrl = None,
    json_output: Json = False,
) -> None:
    """Groups of a job in order of batch: episodes from one initial state.

    gigpo rollouts list demo --batch 12 --won some
    """
    with connected(runs, api) as client:
        found = list(
            client.rollouts(
                client.find(job).id,
                purpose="evaluation" if label else None,
                batch=batch,
                label=label,
                won=won,
                min_length=min_length,
                max_length=max_length,
                limit=limit,
            )
        )
    if json_output:
        emit([one.model_dump() for one in found])
        return
    table = Table("group", "batch", "won", "return", "steps", "task", box=None)
    for one in found:
        steps = " ".join(map(str, one.steps))
        table.add_row(
            one.group_id, str(one.batch), f"{one.won}/{one.episodes}", f"{one.return_mean:.3f}", steps, one.task
        )
    console(json_output).print(table)


@app.command("show")
@says_errors
def show(
    job: JobName,
    group: GroupId,
    episode: OnlyEpisode = None,
    texts: Texts = False,
    runs: Runs = DEFAULT_RUNS,
    api: ApiUrl = None,
    json_output: Json = False,
) -> None:
    """One group, step by step: action, reward, return, and the advantage with its two parts, A = A^E + omega A^S.

    `met` counts the steps of the group that were taken in the same state; where it is 1 the state was seen once, so
    there was nothing to compare and A^S is 0.

    gigpo rollouts show demo GROUP --episode 3 --texts
    """
    with connected(runs, api) as client:
        found = client.rollout(client.find(job).id, group)
    if episode is not None and episode not in (known := [one.k for one in found.played]):
        raise BadInput(f"--episode: want one of {', '.join(map(str, known))}, got {episode}")
    if json_output:
        emit(found.model_dump())
        return
    _print(found, console(json_output), episode, texts)


def _print(group: RolloutDetail, words: Console, only: int | None, texts: bool) -> None:
    words.print(f"group {group.group_id}, batch {group.batch}: {group.won} of {group.episodes} won")
    words.print(f"task: {group.task}")
    for episode in group.played:
        if only is None or episode.k == only:
            words.print(f"\nepisode {episode.k}: {_ending(episode)}, score {episode.score:.3f}")
            words.print(_steps(episode))
            for step in episode.steps if texts else ():
                words.print(f"\nstep {step.step_index} prompt:\n{step.prompt}")
                words.print(f"step {step.step_index} response:\n{step.response}")


def _ending(episode: Episode) -> str:
    if episode.won:
        return "won"
    return "ran out of turns" if episode.truncated else "lost"


def _steps(episode: Episode) -> Table:
    table = Table("step", "action", "reward", "return", "A^E", "A^S", "A", "met", box=None)
    for name in ("step", "reward", "return", "A^E", "A^S", "A", "met"):
        next(column for column in table.columns if column.header == name).justify = "right"
    for step in episode.steps:
        advantages = (step.episode_advantage, step.step_advantage, step.advantage)
        table.add_row(
            str(step.step_index),
            step.action if step.action_valid else f"{step.action} (invalid)",
            f"{step.reward:.2f}",
            f"{step.step_return:.3f}",
            *(f"{value:+.3f}" for value in advantages),
            str(len(step.step_group_members)),
        )
    return table
