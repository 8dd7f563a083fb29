"""`gigpo changed` and `gigpo states`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

from gigpo.client.commands.options import JobName, Limit
from gigpo.client.errors import BadInput
from gigpo.client.models import Changes, MovedState, PlayedBatches, State
from gigpo.client.session import DEFAULT_RUNS, ApiUrl, Json, Runs, connected, console, emit, says_errors

With = Annotated[str | None, typer.Option("--with", metavar="JOB", help="Compare with the newest batches of this job.")]
Batches = Annotated[
    tuple[int, int] | None, typer.Option("--batches", metavar="A B", help="Batches A to B; default: all.")
]
Width = Annotated[int, typer.Option("--width", min=1, max=100, help="Stored batches on either side.")]
Newest = Annotated[int, typer.Option("--width", min=1, max=100, help="Stored batches, the newest of those asked for.")]
MinVisits = Annotated[int, typer.Option("--min-visits", min=1, help="Only states that were visited so often.")]
Evaluations = Annotated[bool, typer.Option("--evaluations", help="Look at evaluations instead of training batches.")]
Sort = Annotated[str, typer.Option("--sort", metavar="regret|visits|return", help="Order of the states.")]
Text = Annotated[str | None, typer.Option("--text", help="Only states whose task or anchor holds this.")]
LONGEST = 110
"""Characters of an anchor in a table."""
LONGEST_TASK = 60
"""Most characters that are printed of a task, which stands beside the state."""


@says_errors
def changed(
    job: JobName,
    batches: Batches = None,
    with_job: With = None,
    width: Width = 5,
    min_visits: MinVisits = 5,
    evaluations: Evaluations = False,
    limit: Limit = 10,
    runs: Runs = DEFAULT_RUNS,
    api: ApiUrl = None,
    json_output: Json = False,
) -> None:
    """States in which the policy chooses otherwise now, and states in which it still errs most.

    `moved` is the total variation between the choices then and now, from 0 (the same) to 1 (nothing in common);
    `chance` is what so many visits would show if nothing had changed. `regret` is the return that the best action seen
    in a state has above what the policy gets there.

    gigpo changed demo                      its oldest batches against its newest
    gigpo changed demo --batches 10 40
    gigpo changed demo --with baseline      from baseline's newest batches to demo's
    """
    if batches is not None and with_job is not None:
        raise BadInput("--batches: want it for one job alone, got --with too")
    purpose = "evaluation" if evaluations else None
    first, last = batches or (None, None)
    with connected(runs, api) as client:
        found = client.find(job).id
        other = client.find(with_job).id if with_job else None
        moved = client.changes(
            found,
            with_job=other,
            from_batch=first,
            to_batch=last,
            width=width,
            purpose=purpose,
            min_visits=min_visits,
            limit=min(limit, 200),
        )
        erring = list(
            client.states(
                found, purpose=purpose, to_batch=last, width=width, min_visits=min_visits, sort="regret", limit=limit
            )
        )
    if json_output:
        emit({"changes": moved.model_dump(), "erring": [one.model_dump() for one in erring]})
        return
    words = console(json_output)
    _print_changes(moved, words)
    words.print("\nwhere it errs most, in the later batches:")
    words.print(states_table(erring))


@says_errors
def states(
    job: JobName,
    batches: Batches = None,
    sort: Sort = "regret",
    text: Text = None,
    width: Newest = 10,
    min_visits: MinVisits = 5,
    evaluations: Evaluations = False,
    limit: Limit = 20,
    runs: Runs = DEFAULT_RUNS,
    api: ApiUrl = None,
    json_output: Json = False,
) -> None:
    """States of whole batches: what the policy does there, what was best, and how much it gives away.

    gigpo states demo --text "put apple"
    gigpo states demo --sort visits --batches 0 20
    """
    first, last = batches or (None, None)
    with connected(runs, api) as client:
        found = list(
            client.states(
                client.find(job).id,
                purpose="evaluation" if evaluations else None,
                from_batch=first,
                to_batch=last,
                width=width,
                sort=sort,
                text=text,
                min_visits=min_visits,
                limit=limit,
            )
        )
    if json_output:
        emit([one.model_dump() for one in found])
        return
    console(json_output).print(states_table(found))


def states_table(found: Sequence[State]) -> Table:
    """One row a state."""
    names = ["regret", "return", "visits", "usual action", "best action", "task", "state", "a visit"]
    table = _table(names, right=3, tasks=has_tasks(found))
    for one in found:
        usual = next((action for action in one.actions if action.action == one.usual_action), None)  # 20 of many come
        share = f" {usual.share:.0%}" if usual else ""
        place = (usual or one.actions[0]).place
        table.add_row(
            "–" if one.regret is None else f"{one.regret:.3f}",
            f"{one.return_mean:.3f}",
            str(one.visits),
            f"{one.usual_action}{share}",
            one.best_action or "–",
            *([short(one.task, LONGEST_TASK)] if has_tasks(found) else []),
            short(one.anchor or one.task),
            f"{place.group_id} e{place.k}·{place.step_index}",
        )
    return table


def _table(names: Sequence[str], *, right: int, tasks: bool) -> Table:
    """A table with these columns, the first `right` of them for numbers; without `tasks` without that column."""
    columns = [Column(name, justify="right" if at < right else "left") for at, name in enumerate(names)]
    return Table(*(column for column in columns if tasks or column.header != "task"), box=None)


def has_tasks(found: Sequence[State | MovedState]) -> bool:
    """Whether the meaning of a state depends on its task, as the same text means something else under another one."""
    return any(one.task and one.anchor not in (None, "", one.task) for one in found)


def short(text: str, longest: int = LONGEST) -> str:
    """One line of a table."""
    line = " ".join(text.split())
    return line if len(line) <= longest else f"{line[:longest]}…"


def _print_changes(found: Changes, words: Console) -> None:
    words.print(f"from {_side(found.before)}\nto   {_side(found.after)}")
    words.print(
        f"{found.compared} states were visited often enough in both; the choice moved by {found.mean_variation:.2f} on "
        f"average, {found.mean_by_chance:.2f} of it is chance"
    )
    if not found.compared:
        words.print("no state recurs: the tasks differ, or --min-visits and --width leave too few visits")
        return
    names, tasks = ["moved", "chance", "visits", "return", "action then → now", "task", "state"], has_tasks(found.items)
    table = _table(names, right=4, tasks=tasks)
    for one in found.items:
        table.add_row(*_moved_cells(one, tasks=tasks))
    words.print(table)


def _moved_cells(one: MovedState, *, tasks: bool) -> list[str]:
    gained = max(one.actions, key=lambda action: action.share_after - action.share_before)
    lost = min(one.actions, key=lambda action: action.share_after - action.share_before)
    return [
        f"{one.total_variation:.2f}",
        f"{one.by_chance:.2f}",
        f"{one.visits_before} → {one.visits_after}",
        f"{one.return_before:.2f} → {one.return_after:.2f}",
        f"{lost.action} {lost.share_before:.0%} → {gained.action} {gained.share_after:.0%}",
        *([short(one.task, LONGEST_TASK)] if tasks else []),
        short(one.anchor or one.task),
    ]


def _side(played: PlayedBatches) -> str:
    numbers = played.batches
    shown = f"{numbers[0]}" if len(numbers) == 1 else f"{numbers[0]}-{numbers[-1]}"
    success = "" if played.success is None else f", success {played.success:.2f}"
    return f"job {played.job_id}, {played.purpose} batches {shown}: {played.episodes} episodes{success}"
