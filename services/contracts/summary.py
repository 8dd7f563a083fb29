"""The summary of a finished job: `summary.json`."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Section(BaseModel):
    model_config = ConfigDict(frozen=True)


class PanelResult(Section):
    """Sampled success on a panel of held-out tasks."""

    episodes: int
    """Tasks that were played, `crashed` ones too."""
    success: float
    """Share of episodes won, [0, 1]."""
    standard_error: float
    """sqrt(p (1 - p) / episodes)."""
    return_mean: float
    length_mean: float
    """Steps per episode."""
    invalid_share: float
    """Share of steps whose action the environment refused."""
    split: str
    crashed: int = 0
    """Episodes among them whose policy crashed the environment: not won, also where the task was
    played again. The means are over the others and the repeated ones."""
    mismatch_kl: float | None = None
    """k3 estimate of KL(engine || trainer), nats per token, both under this version; None: a random actor played, or it
    is a member's result, whose episodes the whole counts."""
    panel: str | None = None
    """Digest of the tasks: environment, split, horizon, kwargs, seeds and first observations. Equal ids are equal
    tasks; one that could not be played makes another id. None: an older release measured."""
    outcomes: str = ""
    """A letter a task, in ascending order of their seeds: 1 won, 0 not won, x crashed its environment, - not played. A
    mixture has those of its members one after the other."""


class EvaluationResult(PanelResult):
    """Sampled success at one pinned policy version."""

    label: str
    """`before`, `during` or `after` training, a baseline such as `task_hidden`, or `pinned`: measured as a job of its
    own."""
    version: int
    members: dict[str, PanelResult] = Field(default_factory=dict)
    """Each member's own panel of a mixture, by name. The result counts every member's episodes alike."""


class LedgerSummary(Section):
    """The ledger's balance at the end: opened = consumed + sum(dropped) + live."""

    opened: int
    consumed: int
    dropped: dict[str, int]
    live: int
    retried: int


class JobSummary(Section):
    """Written once, when a job ends."""

    job_id: str
    name: str | None
    state: str
    success_before: float | None
    success_after: float | None
    evaluations: list[EvaluationResult]
    env_steps: int
    """Steps played for training, evaluations and warm start not counted."""
    trained_steps: int
    trained_tokens: int
    """Response tokens of consumed training groups."""
    sampled_tokens: int
    """Response tokens that the engine reported for those groups; must equal `trained_tokens`."""
    optimizer_steps: int
    batches: int
    wall_s: float
    engine: str
    tuner_type: str = "full"
    """`full` or `lora`: what was trained."""
    ranks: int = 1
    """Processes that trained the policy together."""
    device: str | None = None
    """The device of a rank: `cpu`, or the name of a GPU; None: the job ended before anything was loaded."""
    advantage_estimator: str
    ledger: LedgerSummary
    mismatch_kl_mean: float | None
    """Mean of the evaluations' `mismatch_kl`: arithmetic alone. A training batch's own holds staleness too."""
    checkpoint: str | None
    """Folder in Hugging Face format, relative to the results' folder."""
    seed: int
    stale_max: int | None = None
    """Oldest trained token, in policy versions."""
    phases_s: dict[str, float] = Field(default_factory=dict)
    """Wall time by phase: warmstart, evaluation, training, ..."""
    cpu_s: dict[str, float] = Field(default_factory=dict)
    """CPU seconds of the trainer and of the job's inference replicas, by phase. Environments and rollout workers, which
    may play for several jobs, are not in it."""
    gpu_s: dict[str, float] = Field(default_factory=dict)
    """Seconds of the GPUs that the trainer's ranks and the job's inference replicas held, by phase; 0: no GPU."""
    inert_step_level: str | None = None
    """Why the step level of the newest batches said nothing; None: it worked, or the estimator has none."""
    waits_s: dict[str, float] = Field(default_factory=dict)
    """Waits of the trained batches, wall time: inference, environment, trainer (training and publishing)."""
