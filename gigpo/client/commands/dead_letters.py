"""`gigpo dlq`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from gigpo.client.commands.options import Yes, confirm
from gigpo.client.completion import complete_job
from gigpo.client.models import DeadLetterDetail, RetriedLetter
from gigpo.client.session import DEFAULT_RUNS, ApiUrl, Json, Runs, connected, console, emit, says_errors
from gigpo.client.times import clock

app = typer.Typer(
    no_args_is_help=True,
    help="Dead letters: messages that no service could read or finish. They were set aside with their cause, so that "
    "they stop nothing. `gigpo dlq list` shows them, `show` one with its content; `retry` puts one back into its "
    "stream once its cause is mended, `drop` deletes it. docs/reliability.md says where they come from.",
)

LetterId = Annotated[str, typer.Argument(metavar="ID", help="Id of the dead letter, as `gigpo dlq list` shows it.")]
OfJob = Annotated[
    str | None, typer.Option("--job", help="Only those of this job, by id or name.", autocompletion=complete_job)
]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="Most letters that are shown; default: all.")]
CAUSE_CHARACTERS = 100
"""Characters of a cause in the table; `show` and --json have all of it."""
QUEUE = "queue"
"""Name of the stream of letters that the trainers' queue had."""


@app.command("list")
@says_errors
def list_letters(
    job: OfJob = None, limit: Limit = None, runs: Runs = DEFAULT_RUNS, api: ApiUrl = None, json_output: Json = False
) -> None:
    """Dead letters, the newest first: which stream, since when, how often, and why.

    A letter that was retried in vain is there again, with its first time and one more in the column `times`.
    A key sees the letters of its project's jobs; an administrator sees those of replicas and workers too.

    gigpo dlq list
    gigpo dlq list --job demo --json
    """
    with connected(runs, api) as client:
        job_id = None if job is None else client.find(job).id
        found = list(client.dead_letters(job_id=job_id, limit=limit))
    if json_output:
        emit([one.model_dump() for one in found])
        return
    if not found:
        console(json_output).print("no dead letters")
        return
    table = Table("id", "service", "first", "last", "times", "cause", box=None)
    for one in found:
        first, last = clock(one.first_unix_s), clock(one.last_unix_s)
        table.add_row(one.id, one.service, first, last, f"{one.times:,}", _short(one.cause))
    console(json_output).print(table)


@app.command("show")
@says_errors
def show(letter_id: LetterId, runs: Runs = DEFAULT_RUNS, api: ApiUrl = None, json_output: Json = False) -> None:
    """One dead letter with its content. Long fields are cut, control characters are written out.

    gigpo dlq show groups.j1a2126c436f8acbfa.1795605451797-0
    """
    with connected(runs, api) as client:
        found = client.dead_letter(letter_id)
    if json_output:
        emit(found.model_dump())
    else:
        console(json_output).print(_lines(found))


@app.command("retry")
@says_errors
def retry(letter_id: LetterId, runs: Runs = DEFAULT_RUNS, api: ApiUrl = None, json_output: Json = False) -> None:
    """Put a dead letter back into its stream or queue, once; it is no dead letter any more.

    Refused where nobody would read it: the job has ended, the replica is gone, or the ledger dropped the group.
    If its cause is still there, it comes back with one more in `times`.

    gigpo dlq retry groups.j1a2126c436f8acbfa.1795605451797-0
    """
    with connected(runs, api) as client:
        found = client.retry_dead_letter(letter_id)
    if json_output:
        emit(found.model_dump())
    else:
        console(json_output).print(f"{found.id} was put back into {_place(found)}, as {_entry(found)}")


@app.command("drop")
@says_errors
def drop(
    letter_id: LetterId, yes: Yes = False, runs: Runs = DEFAULT_RUNS, api: ApiUrl = None, json_output: Json = False
) -> None:
    """Delete a dead letter for good. Refused while its group waits for it.

    gigpo dlq drop events.j1a2126c436f8acbfa.1795605451797-0
    """
    confirm(f"drop dead letter {letter_id} for good?", yes)
    with connected(runs, api) as client:
        client.drop_dead_letter(letter_id)
    if json_output:
        emit({"dropped": letter_id})
    else:
        console(json_output).print(f"dropped {letter_id}")


def _lines(letter: DeadLetterDetail) -> str:
    about = {
        "stream": _place(letter),
        "service": letter.service,
        "cause": letter.cause,
        "first": clock(letter.first_unix_s),
        "last": clock(letter.last_unix_s),
        "times": f"{letter.times:,}",
        "group": letter.group_id or "not readable",
        "size": f"{letter.size_bytes:,} bytes{', cut' if letter.cut else ''}",
    }
    fields = [
        f"\n{one.name} ({one.size_bytes:,} bytes{', cut' if one.cut else ''}):\n{one.text}" for one in letter.fields
    ]
    return "\n".join([*(f"{name:<8} {text}" for name, text in about.items()), *fields])


def _place(letter: DeadLetterDetail | RetriedLetter) -> str:
    return "the trainers' queue" if letter.stream == QUEUE else f"{letter.stream} of {letter.owner}"


def _entry(letter: RetriedLetter) -> str:
    return f"job {letter.entry_id}" if letter.stream == QUEUE else f"entry {letter.entry_id}"


def _short(cause: str) -> str:
    return cause if len(cause) <= CAUSE_CHARACTERS else f"{cause[:CAUSE_CHARACTERS]}…"
