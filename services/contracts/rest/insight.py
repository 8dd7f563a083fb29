"""Insight as documents: findings of the diagnosis, changed states, watched episodes."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from services.contracts.rest.base import Document, Named, Request
from services.contracts.rest.rollouts import RolloutPurpose

Severity = Literal["problem", "warning"]


class Figure(Document):
    """One number or text that a finding rests on."""

    name: str
    value: float | str
    about: str
    """Unit, and the limit that it is held against."""


class Finding(Document):
    """Something that keeps a job from learning, or will."""

    code: str
    """Stable name, e.g. `equal_groups`."""
    severity: Named[Severity]
    """`problem`: it cannot learn like this; `warning`: it learns less than it could."""
    title: str
    figures: list[Figure]
    meaning: str
    """One sentence: what the figures say."""
    advice: str
    """One sentence: what to do."""


class Diagnosis(Document):
    """Obstacles to a job's learning; no findings: no known obstacle was found."""

    job_id: str
    batches: int
    """Trained batches whose metrics were looked at."""
    groups: int
    """Stored groups of the newest batches that were looked at."""
    findings: list[Finding]
    """Problems first."""
    checked: list[str]
    """Codes of everything that was looked for."""


class StepPlace(Document):
    """A step in the stored rollouts."""

    job_id: str
    batch: int
    """Number of the trained batch; of an evaluation the policy version it measured."""
    group_id: str
    k: int
    step_index: int


class StateAction(Document):
    """An action that was taken in a state."""

    action: str
    valid: bool
    visits: int
    share: float
    """Share of the state's visits, [0, 1]."""
    return_mean: float
    """Mean discounted return from there."""
    won_share: float
    """Share of its visits whose episode was won."""
    place: StepPlace
    """The newest visit."""


class StateView(Document):
    """A state over whole batches: one anchor under one task, whichever group met it."""

    state: str
    """32 hexadecimal digits; the same in every batch and job."""
    task: str
    anchor: str
    """Its text."""
    visits: int
    return_mean: float
    regret: float | None
    """Mean return of the best action less that of all visits; null: no action was taken twice."""
    best_action: str | None
    usual_action: str
    actions: list[StateAction]
    """Best mean return first; at most 20."""


class PlayedBatches(Document):
    """Which stored batches were looked at."""

    job_id: str
    purpose: Named[RolloutPurpose]
    batches: list[int]
    episodes: int
    success: float | None
    """Share of the episodes won; null: there are none."""
    steps: int
    states: int
    """Different ones."""


class StatePage(Document):
    """States of whole batches."""

    played: PlayedBatches
    total: int
    """How many match in all."""
    items: list[StateView]
    next_cursor: str | None
    """Give it as `cursor` for the next page; null: this is the last."""


class MovedAction(Document):
    """How often an action was taken in a state, then and now."""

    action: str
    visits_before: int
    visits_after: int
    share_before: float
    share_after: float
    return_before: float | None
    """Mean discounted return; null: it was not taken then."""
    return_after: float | None


class MovedState(Document):
    """A state in which the policy chooses otherwise."""

    state: str
    task: str
    anchor: str
    visits_before: int
    visits_after: int
    total_variation: float
    """Half the sum of the differences of the actions' shares, [0, 1]; 1: it does nothing that it did before."""
    by_chance: float
    """The number to expect with so many visits if nothing had changed."""
    return_before: float
    return_after: float
    actions: list[MovedAction]
    """Those whose share moved furthest first; at most 8."""
    place_before: StepPlace
    place_after: StepPlace


class ChangePage(Document):
    """Changes between two sets of stored batches; states moved furthest beyond chance first."""

    before: PlayedBatches
    after: PlayedBatches
    compared: int
    """States that both visited often enough."""
    mean_variation: float
    """Mean total variation of these, weighed by visits."""
    mean_by_chance: float
    items: list[MovedState]
    next_cursor: str | None
    """Give it as `cursor` for the next page; null: this is the last."""


class WatchRequest(Request):
    """Let a policy of the job play one episode to be watched."""

    checkpoint: str | None = Field(None, max_length=128, examples=["final"])
    """Null: of a running job the version that its replica serves, of another one the newest checkpoint."""
    seed: int | None = Field(None, ge=0, lt=1 << 31, examples=[7])
    """Names the task: the first one of the evaluation panel of this `eval_seed`; null: any."""
    split: str | None = Field(None, max_length=64)
    """Null: the job's `eval_split`."""
    member: str | None = Field(None, max_length=32)
    """The member of a mixture that the task is of; null: one that the seed names."""


class WatchView(Document):
    """An episode that is played to be watched. It is forgotten when nobody asked for its steps for a minute."""

    watch_id: str
    job_id: str
    """The job whose policy plays."""
    player_job: str
    """The job that plays: the same one beside its training, or an evaluation of one episode made for this."""
    checkpoint: str | None
    """Null: what the job's replica serves."""
    seed: int
    split: str


class SeenState(Document):
    """A state in the job's stored rollouts."""

    of_task: bool
    """True: visits with the same task; false: none are known, these are visits with any task."""
    batches: list[int]
    """Stored batches that were looked at."""
    state: StateView
