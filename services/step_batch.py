"""Turns episodes into the rows that `gigpo_core` compares. The advantage service uses it to score a complete group, the
trainer to score the groups of a batch together."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gigpo_core import StepBatch
from gigpo_core.digest import action_digest
from services.contracts.messages import Episode, Step


class GroupFault(ValueError):
    """The episodes of a group contradict each other: scoring them again won't help."""


def rows_in_order(episodes: Sequence[Episode]) -> list[Step]:
    """The rows of a group whose episodes are in order of k: ordered by (k, step_index)."""
    return [step for episode in episodes for step in sorted(episode.steps, key=lambda step: step.step_index)]


def step_batch(
    groups: Sequence[Sequence[Episode]],
    functions: int,
    *,
    kl: Sequence[float] | None = None,
    device: str | torch.device = "cpu",
) -> StepBatch:
    """The rows of all groups, group after group, each `rows_in_order`.

    Args:
        functions: how many reward functions the job has.
        kl: [N], of each row, see `StepBatch.kl`; None: there is none.

    Raises:
        GroupFault: a step has not one value for each reward function, or a digest that is none.
    """
    place = torch.device(device)
    group_ids: list[int] = []
    episode_ids: list[int] = []
    success: list[bool] = []
    episodes = 0
    for position, group in enumerate(groups):
        for episode in group:
            group_ids += [position] * len(episode.steps)
            episode_ids += [episodes] * len(episode.steps)
            success += [episode.won] * len(episode.steps)  # who reads it asks whether any step says so
            episodes += 1
    steps = [step for group in groups for step in rows_in_order(group)]
    components, voted = _votes(_reward_components(steps, functions, place))
    # the values of reward functions stand for the reward, which is their weighted sum
    rewards = [step.reward if components is None else 0.0 for step in steps]
    return StepBatch(
        group_id=torch.tensor(group_ids, dtype=torch.int64, device=place),
        episode_id=torch.tensor(episode_ids, dtype=torch.int64, device=place),
        step_index=torch.tensor([step.step_index for step in steps], dtype=torch.int64, device=place),
        anchor_key=_digests("anchor_key", [step.anchor_key for step in steps]).to(place),
        reward=torch.tensor(rewards, dtype=torch.float64, device=place),
        action_valid=torch.tensor([step.action_valid for step in steps], dtype=torch.bool, device=place),
        anchor_text=[step.anchor for step in steps],
        kl=None if kl is None else torch.tensor(kl, dtype=torch.float64, device=place),
        success=torch.tensor(success, dtype=torch.bool, device=place),
        reward_components=components,
        reward_voted=voted,
        state_key=_digests("state_key", [step.state_key for step in steps]).to(place),
        action_key=_digests("action_key", [step.action_key or action_digest(step.action) for step in steps]).to(place),
    )


def _reward_components(steps: Sequence[Step], functions: int, device: torch.device) -> Tensor | None:
    """float64 [N, F]; None for jobs without reward functions."""
    for step in steps:
        if len(step.rewards) != functions:
            raise GroupFault(f"rewards: want one for each of {functions} reward functions, got {len(step.rewards)}")
    if not functions:
        return None
    values = torch.tensor([step.rewards for step in steps], dtype=torch.float64, device=device)
    return values.view(-1, functions)


def _votes(components: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """The values, 0 where a function abstained, and who had a vote, bool [N, F]; None: every function on every step."""
    if components is None or not bool((abstained := components.isnan()).any()):
        return components, None
    return components.masked_fill(abstained, 0.0), ~abstained


def _digests(name: str, digests: Sequence[bytes]) -> Tensor:
    """int64 [N, 2] on the CPU; `name` is what an error calls them."""
    for digest in digests:
        if len(digest) != 16:
            raise GroupFault(f"{name}: want 16 bytes, got {len(digest)}")
    if not digests:
        return torch.zeros(0, 2, dtype=torch.int64)
    return torch.frombuffer(bytearray(b"".join(digests)), dtype=torch.int64).view(-1, 2)
