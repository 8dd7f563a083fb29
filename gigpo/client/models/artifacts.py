"""What a job leaves: rollouts and checkpoints."""

from __future__ import annotations

from gigpo.client.models.base import Answer


class CheckpointFile(Answer):
    """A file of a checkpoint."""

    name: str
    size_bytes: int
    sha256: str | None = None
    """Hex digest; None: the API does not know it."""


class Checkpoint(Answer):
    """A complete checkpoint in Hugging Face format."""

    name: str
    final: bool
    """The job's result."""
    created_unix_s: float
    files: list[CheckpointFile]

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)


class Rollout(Answer):
    """A trained group: episodes from one initial state."""

    group_id: str
    batch: int
    cursor: int
    task: str
    episodes: int
    won: int
    return_mean: float
    steps: list[int]
    """Length of each episode, in order of k."""


class StepMember(Answer):
    """Another visit to the same anchor state."""

    k: int
    step_index: int


class Step(Answer):
    """One model turn and why it got its advantage: A = A^E + omega A^S."""

    step_index: int
    prompt: str
    response: str
    action: str
    action_valid: bool
    reward: float
    anchor: str
    step_return: float
    """Discounted return-to-go."""
    advantage: float
    episode_advantage: float
    step_advantage: float
    step_group: int
    step_group_members: list[StepMember]


class Episode(Answer):
    """One episode of a group."""

    episode_id: str
    k: int
    attempt: int
    won: bool
    score: float
    terminated: bool
    truncated: bool
    steps: list[Step]


class RolloutDetail(Rollout):
    """A trained group with every step of its episodes."""

    diagnostics: dict[str, float]
    played: list[Episode]


class Visit(Answer):
    """One step taken from an anchor state."""

    k: int
    step_index: int
    step_return: float
    step_advantage: float
    advantage: float
    won: bool
    leads_to: int | None
    """`step_group` of the episode's next step; None: it was the last."""


class AnchorAction(Answer):
    """An action taken from an anchor state, and how it went."""

    action: str
    valid: bool
    visits: list[Visit]
    return_mean: float
    step_advantage_mean: float


class Anchor(Answer):
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
