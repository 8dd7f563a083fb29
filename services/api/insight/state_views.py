"""States and changes as documents, page by page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from services.api.insight.changes import (
    Erring,
    Moved,
    best_action,
    erring_states,
    mean_variation,
    most_moved,
    moved_states,
)
from services.api.insight.played import Played, newest_place
from services.api.insight.state_table import Actions, Tally, return_of, states_of_table, visits_of
from services.contracts.rest.insight import ChangePage, MovedAction, MovedState, StateAction, StatePage, StateView

Sort = Literal["regret", "visits", "return"]
SHOWN_ACTIONS, SHOWN_MOVED = 20, 8


def state_page(played: Played, *, sort: Sort, text: str | None, min_visits: int, offset: int, limit: int) -> StatePage:
    """States of whole batches: those where the policy errs most first, the most visited, or the lowest return.

    Args:
        text: only states whose task or anchor holds it, whatever its case.
    """
    found = _sorted(played, sort, min_visits)
    if text is not None:
        wanted = text.casefold()
        found = [one for one in found if wanted in "\n".join(played.table.texts[one[0]]).casefold()]
    items = [state_view(played, *one) for one in found[offset : offset + limit]]
    return StatePage(
        played=played.document(),
        total=len(found),
        items=items,
        next_cursor=_next(offset, limit, len(found)),
    )


def change_page(before: Played, after: Played, *, min_visits: int, offset: int, limit: int) -> ChangePage:
    """States in which the choice moved from the one to the other, furthest beyond chance first."""
    moved = moved_states(before.table, after.table, min_visits=min_visits)
    variation, by_chance = mean_variation(moved)
    return ChangePage(
        before=before.document(),
        after=after.document(),
        compared=len(moved),
        mean_variation=variation,
        mean_by_chance=by_chance,
        items=[_moved_state(before, after, one) for one in moved[offset : offset + limit]],
        next_cursor=_next(offset, limit, len(moved)),
    )


def state_view(played: Played, state: bytes, actions: Actions, texts: tuple[str, str] | None = None) -> StateView:
    """One state with what was done there.

    Args:
        texts: its task and anchor; None: as the table has them.
    """
    task, anchor = texts or played.table.texts[state]
    best, visits = best_action(actions), visits_of(actions)
    ordered = sorted(actions.items(), key=lambda one: (-one[1].return_mean, one[0]))
    return StateView(
        state=state.hex(),
        task=task,
        anchor=anchor,
        visits=visits,
        return_mean=return_of(actions),
        regret=None if best is None else Erring(state, actions, best, best).regret,
        best_action=best,
        usual_action=max(actions, key=lambda one: actions[one].visits),
        actions=[state_action(played, name, tally, visits) for name, tally in ordered[:SHOWN_ACTIONS]],
    )


def state_action(played: Played, action: str, tally: Tally, visits: int) -> StateAction:
    """One action of a state that was visited so often."""
    return StateAction(
        action=action,
        valid=tally.valid,
        visits=tally.visits,
        share=tally.visits / visits,
        return_mean=tally.return_mean,
        won_share=tally.won / tally.visits,
        place=played.place(tally.place),
    )


def _sorted(played: Played, sort: Sort, min_visits: int) -> Sequence[tuple[bytes, Actions]]:
    if sort == "regret":
        return [(one.state, one.actions) for one in erring_states(played.table, min_visits=min_visits)]
    states = list(states_of_table(played.table, min_visits))
    if sort == "visits":
        return sorted(states, key=lambda one: (-visits_of(one[1]), one[0]))
    return sorted(states, key=lambda one: (return_of(one[1]), -visits_of(one[1]), one[0]))


def _moved_state(before: Played, after: Played, moved: Moved) -> MovedState:
    task, anchor = after.table.texts[moved.state]
    return MovedState(
        state=moved.state.hex(),
        task=task,
        anchor=anchor,
        visits_before=visits_of(moved.before),
        visits_after=visits_of(moved.after),
        total_variation=moved.total_variation,
        by_chance=moved.by_chance,
        return_before=return_of(moved.before),
        return_after=return_of(moved.after),
        actions=[_moved_action(moved, *one) for one in most_moved(moved, SHOWN_MOVED)],
        place_before=before.place(newest_place(tally.place for tally in moved.before.values())),
        place_after=after.place(newest_place(tally.place for tally in moved.after.values())),
    )


def _moved_action(moved: Moved, action: str, before: Tally | None, after: Tally | None) -> MovedAction:
    then, now = before.visits if before else 0, after.visits if after else 0
    return MovedAction(
        action=action,
        visits_before=then,
        visits_after=now,
        share_before=then / visits_of(moved.before),
        share_after=now / visits_of(moved.after),
        return_before=before.return_mean if before else None,
        return_after=after.return_mean if after else None,
    )


def _next(offset: int, limit: int, total: int) -> str | None:
    return str(offset + limit) if offset + limit < total else None
