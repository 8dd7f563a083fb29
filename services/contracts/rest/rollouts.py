"""Rollouts and anchors as documents: the agent's observations and actions, and how each step got its advantage."""

from __future__ import annotations

from typing import Literal

from pydantic import computed_field

from services.contracts.rest.base import DEPRECATED, Document, Named, Page
from services.contracts.rest.positions import offset_of

RolloutPurpose = Literal["training", "evaluation"]
"""Which rollouts: those of training batches, or those of evaluations."""


class RolloutBrief(Document):
    """A group that was played."""

    group_id: str
    purpose: Named[RolloutPurpose]
    batch: int
    """Number of the trained batch; of an evaluation the policy version it measured."""
    label: str | None
    """Label of the evaluation, e.g. `after`; null: it was trained."""
    cursor: int
    task: str
    episodes: int
    won: int
    return_mean: float
    steps: list[int]
    """Length of each episode, in order of k."""


class Panel(Document):
    """An evaluation whose rollouts are archived."""

    label: str
    version: int


class RolloutPage(Page[RolloutBrief]):
    """Some groups in order of batch and cursor."""

    model_config = Document.model_config

    batches: list[int]
    """Every archived batch."""
    panels: list[Panel]
    """Every archived evaluation."""

    @computed_field(json_schema_extra=DEPRECATED)  # type: ignore[prop-decorator]
    @property
    def rollouts(self) -> list[RolloutBrief]:
        """The same as `items`."""
        return self.items

    @computed_field(json_schema_extra=DEPRECATED)  # type: ignore[prop-decorator]
    @property
    def next_offset(self) -> int | None:
        """The value of `next_cursor`, for the parameter `offset`."""
        return None if self.next_cursor is None else offset_of(self.next_cursor)


class StepMember(Document):
    """A step of the same step group: another visit to the same anchor state."""

    k: int
    step_index: int


class StepView(Document):
    """One model turn and why it got its advantage: A = A^E + omega A^S."""

    step_index: int
    prompt: str
    continues: bool = False
    """The step before, prompt and response, stands in front of the prompt: a conversation goes on."""
    response: str
    """Decoded from the tokens that were sampled and trained, special ones included."""
    action: str
    action_valid: bool
    finish_reason: str
    reward: float
    anchor: str
    versions: list[int]
    """Policy versions that sampled its tokens."""
    logprob_sum: float
    step_return: float
    """Discounted return-to-go."""
    advantage: float
    episode_advantage: float
    step_advantage: float
    step_group: int
    step_group_members: list[StepMember]


class EpisodeView(Document):
    """One episode of a group."""

    episode_id: str
    k: int
    attempt: int
    task: str
    won: bool
    score: float
    terminated: bool
    truncated: bool
    steps: list[StepView]


class RolloutDetail(RolloutBrief):
    """A group with every step of its episodes."""

    diagnostics: dict[str, float]
    played: list[EpisodeView]


class Visit(Document):
    """One step taken from an anchor state."""

    k: int
    step_index: int
    step_return: float
    step_advantage: float
    advantage: float
    won: bool
    """Whether its episode was."""
    leads_to: int | None
    """`step_group` of the episode's next step; null: it was the last."""


class AnchorAction(Document):
    """An action taken from an anchor state, and how it went."""

    action: str
    valid: bool
    visits: list[Visit]
    return_mean: float
    step_advantage_mean: float


class AnchorState(Document):
    """A state of a group's episodes, with everything that was done there."""

    group_id: str
    step_group: int
    anchor: str
    """Its text."""
    visits: int
    episodes: int
    """How many episodes of the group came here."""
    return_mean: float
    actions: list[AnchorAction]
    """Best mean return first."""


class AnchorPage(Page[AnchorState]):
    """Anchor states of one batch: most visited first."""

    model_config = Document.model_config

    batch: int
    total: int
    """How many match in all."""

    @computed_field(json_schema_extra=DEPRECATED)  # type: ignore[prop-decorator]
    @property
    def anchors(self) -> list[AnchorState]:
        """The same as `items`."""
        return self.items

    @computed_field(json_schema_extra=DEPRECATED)  # type: ignore[prop-decorator]
    @property
    def next_offset(self) -> int | None:
        """The value of `next_cursor`, for the parameter `offset`."""
        return None if self.next_cursor is None else offset_of(self.next_cursor)
