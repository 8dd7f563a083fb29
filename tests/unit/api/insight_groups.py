"""Hand-made groups of episodes, as a trainer archives them: states, actions, returns and advantages given."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import msgspec

from services.contracts.archive import Group
from services.contracts.messages import Episode, ScoredGroup
from tests.rollout_archives import episode


def played(
    anchors: Sequence[str],
    actions: Sequence[str] | None = None,
    *,
    won: bool = False,
    valid: bool = True,
    task: str = "put it",
) -> Episode:
    """An episode that went through these states, `act N` in the N-th where no actions are given."""
    made = episode(0, [0.0] * (len(anchors) - 1) + [1.0 if won else 0.0])
    done = actions or [f"act {at}" for at in range(len(anchors))]
    steps = [
        msgspec.structs.replace(step, anchor=anchor, action=action, action_valid=valid)
        for step, anchor, action in zip(made.steps, anchors, done, strict=True)
    ]
    return msgspec.structs.replace(made, steps=steps, task=task)


def group_of(
    episodes: Sequence[Episode],
    *,
    advantage: float = 0.0,
    returns: Sequence[float] | None = None,
    group_id: str = "tabc",
    cursor: int = 0,
) -> Group:
    """The episodes as a group whose steps all have this advantage; a step's return is 1 in a won episode, else 0."""
    numbered = [msgspec.structs.replace(one, k=k, group_id=group_id) for k, one in enumerate(episodes)]
    rows = [(one, step) for one in numbered for step in one.steps]
    labels: dict[str, int] = {}
    columns = {
        "advantage": [advantage] * len(rows),
        "episode_advantage": [advantage] * len(rows),
        "step_advantage": [0.0] * len(rows),
        "step_return": list(returns) if returns is not None else [float(one.won) for one, _ in rows],
    }
    scored = ScoredGroup(
        group_id=group_id,
        purpose="train",
        cursor=cursor,
        **{name: array("d", values).tobytes() for name, values in columns.items()},
        step_group=array("q", [labels.setdefault(step.anchor, len(labels)) for _, step in rows]).tobytes(),
        episodes_sha="x",
    )
    return scored, numbered
