"""The anchor states of a batch that several episodes visited, with the actions taken there and their returns."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from statistics import fmean

from services.api.artifacts.rollouts import Columns, RolloutArchive
from services.contracts.archive import Group
from services.contracts.rest.positions import cut
from services.contracts.rest.rollouts import AnchorAction, AnchorPage, AnchorState, Visit


def anchor_page(
    archive: RolloutArchive,
    folder: Path,
    batch: int | None,
    group_id: str | None,
    *,
    min_visits: int,
    offset: int,
    limit: int,
) -> AnchorPage:
    """Anchor states of a trained batch, None: the newest, or of one of its groups; the most visited first.

    Raises:
        Problem: 404, the batch is not archived.
    """
    number, groups = archive.groups(folder, batch)
    chosen = [group for group in groups if group_id in (None, group[0].group_id)]
    states = [state for group in chosen for state in states_of(group) if state.visits >= min_visits]
    states.sort(key=lambda state: -state.visits)  # stable: equals stay in order of cursor and first appearance
    items, following = cut(states, offset, limit)
    return AnchorPage(batch=number, items=items, total=len(states), next_cursor=following)


def states_of(group: Group) -> Iterator[AnchorState]:
    """Every state of a group in order of first appearance, those that were visited once too."""
    scored, _ = group
    places: dict[int, dict[str, list[tuple[Visit, bool]]]] = {}
    texts: dict[int, str] = {}
    for label, action, text, visit, valid in _visits(group):
        texts.setdefault(label, text)
        places.setdefault(label, {}).setdefault(action, []).append((visit, valid))
    for label, by_action in places.items():
        actions = [_action(action, visits) for action, visits in by_action.items()]
        actions.sort(key=lambda one: -one.return_mean)
        visits = [visit for one in actions for visit in one.visits]
        yield AnchorState(
            group_id=scored.group_id,
            step_group=label,
            anchor=texts[label],
            visits=len(visits),
            episodes=len({visit.k for visit in visits}),
            return_mean=fmean(visit.step_return for visit in visits),
            actions=actions,
        )


def _visits(group: Group) -> Iterator[tuple[int, str, str, Visit, bool]]:
    """Step group, action, anchor text, the visit, and whether the action was valid; in order of (k, step_index)."""
    scored, episodes = group
    columns, row = Columns.of(scored), 0
    for episode in episodes:
        last = row + len(episode.steps) - 1
        for step in episode.steps:
            visit = Visit(
                k=episode.k,
                step_index=step.step_index,
                step_return=columns.step_return[row],
                step_advantage=columns.step_advantage[row],
                advantage=columns.advantage[row],
                won=episode.won,
                leads_to=columns.step_group[row + 1] if row < last else None,
            )
            yield columns.step_group[row], step.action, step.anchor, visit, step.action_valid
            row += 1


def _action(action: str, visits: list[tuple[Visit, bool]]) -> AnchorAction:
    made = [visit for visit, _ in visits]
    return AnchorAction(
        action=action,
        valid=all(valid for _, valid in visits),
        visits=made,
        return_mean=fmean(visit.step_return for visit in made),
        step_advantage_mean=fmean(visit.step_advantage for visit in made),
    )
