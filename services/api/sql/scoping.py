"""One project's view of the database: every statement of a scoped session sees that project's rows only.

This is the only code that keeps projects apart. Handlers use a scoped session and need no checks of their own. A table
without a rule can't be used through such a session, so a new table is closed until it gets a rule.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from sqlalchemy import ClauseElement, ColumnElement, ScalarSelect, TableClause, TextClause, UpdateBase, event, select
from sqlalchemy.orm import ORMExecuteState, Session, UOWTransaction, with_loader_criteria
from sqlalchemy.sql import visitors

from services.api.rest.caller import Caller
from services.api.sql.access_tables import ProjectRow
from services.api.sql.tables import Base, EventRow, IdempotencyRow, JobRow

Rule = Callable[[str], ColumnElement[bool]]


def _jobs_of(project: str) -> ScalarSelect[str]:
    return select(JobRow.id).where(JobRow.project_id == project).scalar_subquery()


RULES: dict[type[Base], Rule] = {
    JobRow: lambda project: JobRow.project_id == project,
    EventRow: lambda project: EventRow.job_id.in_(_jobs_of(project)),
    IdempotencyRow: lambda project: IdempotencyRow.project_id == project,
    ProjectRow: lambda project: ProjectRow.id == project,
}
"""Table -> the condition under which a project sees a row."""
_OPEN_TABLES = frozenset(row.__tablename__ for row in RULES)
_INFO = "caller"


class OutOfScope(Exception):
    """A scoped session was asked for something that no rule covers: a mistake in our code, never in a request."""


class ScopedSession(Session):
    """Sees what its caller sees. Without a caller, in the loops of the process, that is everything."""


def carried(caller: Caller | None) -> dict[str, Caller | None]:
    """The `info` that a session has to carry to be scoped."""
    return {_INFO: caller}


@event.listens_for(ScopedSession, "do_orm_execute")
def _confine(state: ORMExecuteState) -> None:
    caller: Caller | None = state.session.info.get(_INFO)
    if caller is None or caller.sees is None:
        return
    if state.is_insert:
        raise OutOfScope(f"project {caller.sees} adds rows through `Submissions` alone, got {state.statement}")
    changed = [state.statement.table] if isinstance(state.statement, UpdateBase) else []
    for part in (*changed, *visitors.iterate(cast(ClauseElement, state.statement))):
        if isinstance(part, TextClause) or (isinstance(part, TableClause) and part.name not in _OPEN_TABLES):
            raise OutOfScope(f"no rule says what project {caller.sees} may see of: {part}")
        if isinstance(part, TableClause) and not state.is_orm_statement:
            raise OutOfScope(f"want a statement on mapped classes, which can be confined, got one on table {part}")
    project = caller.sees
    criteria = [with_loader_criteria(row, rule(project), include_aliases=True) for row, rule in RULES.items()]
    state.statement = state.statement.options(*criteria)


@event.listens_for(ScopedSession, "before_flush")
def _refuse_additions(session: Session, _context: UOWTransaction, _instances: object) -> None:
    caller: Caller | None = session.info.get(_INFO)
    if caller is not None and caller.sees is not None and session.new:
        raise OutOfScope(f"project {caller.sees} adds rows through `Submissions` alone, got {list(session.new)!r}")
