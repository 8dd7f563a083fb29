"""The job spec: one model used by api, client, rollout and trainer. Unknown keys are refused, never ignored.

Leaf names are unique over all sections and, where ms-swift has the parameter, they are ms-swift's; so every leaf is a
command line flag too (`flags`) and `gigpo train --advantage_estimator gigpo --use_gym_env true` works as it stands.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from services.contracts.acting import SINGLE_TURN as SINGLE_TURN
from services.contracts.acting import Environment
from services.contracts.agents import OUTSIDE
from services.contracts.algorithm import DISCOUNTING_ONE_STEP, STEP_ESTIMATORS, Algorithm
from services.contracts.effectless_options import Effect, effective_with, without_effect
from services.contracts.ids import Purpose
from services.contracts.mixture import Member, drawn_member
from services.contracts.model import Model, ScratchModel, WarmStart
from services.contracts.plain_errors import NAME_PATTERN, kind_of
from services.contracts.rewards import BUILT_IN_REWARDS, Rewards
from services.contracts.section import Section
from services.contracts.spec_keys import leaf_paths, told, without_short_forms
from services.contracts.truncation import MOST_KEPT, why_not_truncated
from services.contracts.vllm_options import VllmOptions

__all__ = [
    "Algorithm",
    "Environment",
    "JobSpec",
    "Model",
    "Rewards",
    "ScratchModel",
    "SpecError",
    "WarmStart",
    "flags",
    "parse_spec",
]


class Rollout(Section):
    """How groups are opened and sampled."""

    effects: ClassVar[tuple[Effect, ...]] = (
        Effect("extra_groups", ("batch_order",), lambda order: order == "arrival", "batch_order: arrival"),
    )

    num_generations: int = Field(8, ge=1)
    """Episodes per group."""
    groups_per_batch: int = Field(16, ge=1)
    """Groups in a training batch; each plays one task num_generations times."""
    temperature: float = Field(1.0, gt=0)
    """Sampling temperature, of training and evaluations."""
    max_completion_length: int = Field(512, ge=1)
    """Longest response, tokens."""
    top_k: int = Field(0, ge=0, le=MOST_KEPT)
    """Sample each token among this many most likely ones (from 2); probabilities are renormalised over what could be
    sampled, in sampling and in the loss. 0: all. A rollout records for each token the ids that it could have been."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Of the top_k tokens, sample among the most likely ones that have this share of their probability together."""
    min_p: float = Field(0.0, ge=0, lt=1)
    """Of the top_k tokens, sample among those with at least this share of the most likely one's probability."""
    stop_words: list[Annotated[str, Field(min_length=1)]] = Field(default_factory=list, max_length=16)
    """Texts that end a reply, which keeps them, such as </action>; the model's own end tokens end it too."""
    guided_decoding: Literal["admissible_actions"] | None = None
    """Which replies the policy chooses among: those that say one of the `admissible_actions` of its state, in the form
    of `prompt_form`, with probabilities renormalised over them in sampling and in the loss; null: all texts."""
    max_staleness: int = Field(1, ge=0)
    """Policy versions that may lie between sampling and training; 0 is strictly on-policy."""
    batch_order: Literal["cursor", "arrival"] = "cursor"
    """Groups of a batch: the ones opened first, or the ones played first, so that a slow episode holds up no batch.
    arrival favours short episodes for as long as max_staleness lets long ones wait."""
    extra_groups: int = Field(0, ge=0)
    """Groups under way beyond those that batches need, so that a batch need not wait for the slowest."""
    max_attempts: int = Field(3, ge=1)
    """Times a group is played before infrastructure faults drop it."""


class Training(Section):
    """The optimizer."""

    effects: ClassVar[tuple[Effect, ...]] = (
        Effect(
            "lr_end_ratio",
            ("lr_scheduler_type",),
            lambda kind: kind != "constant",
            "lr_scheduler_type: cosine or linear",
        ),
    )

    seed: int = Field(0, ge=0, lt=1 << 31)
    """Seed of the tasks, the sampling and the weights from scratch."""
    total_batches: int = Field(60, ge=0, le=1_000_000_000)
    """Batches to train; each publishes one policy version. 0: warm start and evaluation only."""
    minibatches: int = Field(8, ge=1)
    """Optimizer steps a batch is split into, per iteration."""
    learning_rate: float = Field(1e-6, gt=0)
    """Learning rate before lr_scheduler_type and warmup_batches scale it."""
    lr_scheduler_type: Literal["constant", "linear", "cosine"] = "linear"
    """Path of the learning rate over the batches, from all of it towards its lr_end_ratio."""
    lr_end_ratio: float = Field(0.0, ge=0, le=1)
    """The end of the learning rate's path, right after the last batch, as a share of learning_rate."""
    warmup_batches: int = Field(0, ge=0)
    """Batches over which the learning rate rises to its full value."""
    weight_decay: float = Field(0.0, ge=0)
    """AdamW's weight decay."""
    max_grad_norm: float = Field(1.0, gt=0)
    """Norm that gradients are clipped to."""
    microbatch_tokens: int = Field(16_384, ge=64)
    """Token budget of one forward and backward pass."""
    gradient_checkpointing: bool | None = None
    """Compute activations again in the backward pass: less memory, more time. null: with a `model` whose layers can be
    computed again, and not with one from scratch."""


class Evaluation(Section):
    """Held-out tasks, sampled at the rollout temperature, on a pinned policy version."""

    eval_episodes: int = Field(256, ge=1)
    """Episodes of an evaluation."""
    eval_seed: int = Field(0, ge=0)
    """Seed of the panel of tasks; the same for every job that is to be compared."""
    eval_every: int = Field(0, ge=0)
    """Evaluate every so many batches during training too; 0: before and after only."""
    eval_baselines: bool = True
    """Play baselines after training too: the task hidden, another task's sentence shown, and a random admissible
    actor."""


class Checkpoint(Section):
    """The files that survive a crash."""

    checkpoint_every: int = Field(10, ge=1)
    """Batches between checkpoints; also the length of a Celery segment."""
    checkpoint_keep: int = Field(2, ge=1)
    """Checkpoints that are kept, the newest ones."""


class Inference(VllmOptions):
    """Which engine samples, and how vLLM is started."""

    effects: ClassVar[tuple[Effect, ...]] = (
        *(effective_with(option, "engine", ["vllm"]) for option in VllmOptions.OF_VLLM),
        Effect("vllm_enable_prefix_caching", ("deterministic",), lambda asked: not asked, "deterministic: false"),
    )

    engine: Literal["vllm", "transformers"] = "vllm"
    """`vllm` is the fast one; `transformers` needs no second installation."""
    deterministic: bool = False
    """Sample each prompt as if it were alone, so that two runs of one spec are bit-equal, through kills too; slower."""

    @property
    def options(self) -> VllmOptions:
        """Those of vLLM alone."""
        return VllmOptions.model_validate(self.model_dump(include=set(VllmOptions.OF_VLLM)))


TrackerName = Literal["mlflow", "wandb", "trackio"]
"""Name of a tracker, of the module that it is imported as, and of the extra that installs it."""


def _names(value: object) -> object:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


TrackerNames = Annotated[list[TrackerName], BeforeValidator(_names)]
"""Accepts a list, or a text with commas."""


class Tracking(Section):
    """Trackers of metrics besides TensorBoard's files, which every job has. The trainer knows addresses and keys."""

    trackers: TrackerNames = Field(default_factory=list)
    """Names, as a list or with commas; each reads its own environment variables in the trainer."""
    tracking_project: str = Field("gigpo", min_length=1, max_length=128)
    """MLflow's experiment, the others' project."""


class Limits(Section):
    """Deadlines of the whole job."""

    max_wall_s: float = Field(86_400.0, gt=0)
    """Longest time from the first segment to the last, seconds; then the job fails."""
    batch_timeout_s: float = Field(600.0, gt=0)
    """Longest wait for the next scored group, seconds, restarted by every one that comes; then the job fails and says
    which groups are missing."""


_BESIDE_TURNS = (
    Effect(
        "gamma",
        ("max_turns", "advantage_estimator"),
        lambda turns, estimator: turns > 1 or estimator in DISCOUNTING_ONE_STEP,
        "max_turns > 1 (there is nothing to discount)",
    ),
    Effect("gae_lambda", ("max_turns",), lambda turns: turns > 1, "max_turns > 1 (no step comes later)"),
    Effect("episode_statistics", ("max_turns",), lambda turns: turns > 1, "max_turns > 1 (one step is one vote)"),
)
"""Options that the length of episodes takes the effect from."""


class JobSpec(Section):
    """Everything a job needs, resolved: two equal specs train the same groups."""

    name: str | None = Field(None, pattern=NAME_PATTERN)
    """The job's name for people; also the folder of its results."""
    model: Model
    environment: Environment = Environment()
    rewards: Rewards = Rewards()
    algorithm: Algorithm = Algorithm()
    rollout: Rollout = Rollout()
    training: Training = Training()
    evaluation: Evaluation = Evaluation()
    checkpoint: Checkpoint = Checkpoint()
    inference: Inference = Inference()
    tracking: Tracking = Tracking()
    limits: Limits = Limits()

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, document: object) -> object:
        return without_short_forms(document) if isinstance(document, dict) else document

    @model_validator(mode="after")
    def _combinations_are_supported(self) -> JobSpec:
        estimator, gym = self.algorithm.advantage_estimator, self.environment.use_gym_env
        if estimator in STEP_ESTIMATORS and not gym:
            raise ValueError(
                f"advantage_estimator: {estimator} needs use_gym_env: true (it compares states), got use_gym_env: false"
            )
        comparing = "dynamic_sample" if self.algorithm.dynamic_sample else estimator
        if comparing != "grpo" and self.rollout.num_generations < 2:
            raise ValueError(f"num_generations: {comparing} compares episodes of a group, want >= 2, got 1")
        if self.algorithm.compares_groups and self.training.minibatches > self.rollout.groups_per_batch:
            raise ValueError(
                f"minibatches: {self.algorithm.loss_type} deals a batch out by whole groups, want at most "
                f"groups_per_batch = {self.rollout.groups_per_batch}, got {self.training.minibatches}"
            )
        if self.model.warmstart and self.model.model:
            raise ValueError("warmstart: want it with `scratch` only; a model from a folder needs no warm start")
        if self.inference.deterministic and self.rollout.batch_order == "arrival":
            raise ValueError(
                "deterministic: want batch_order: cursor with it (otherwise timing decides what is trained), "
                "got arrival"
            )
        if self.inference.deterministic and self.rollout.max_staleness:
            raise ValueError(
                "deterministic: want max_staleness: 0 with it (otherwise timing decides which version samples), "
                f"got {self.rollout.max_staleness}"
            )
        if (scratch := self.model.scratch) and self.max_model_len > scratch.max_position_embeddings:
            raise ValueError(
                f"vllm_max_model_len: want <= {scratch.max_position_embeddings} (max_position_embeddings), "
                f"got {self.max_model_len}"
            )
        if scratch and not scratch.scratch_chat and (without := self._needs_a_chat_template()):
            raise ValueError(f"{without}: want a model whose tokenizer has a chat template with it, got scratch")
        return self

    @model_validator(mode="after")
    def _tools_have_a_chat_template(self) -> JobSpec:
        scratch = self.model.scratch
        if self.environment.prompt_form == "tools" and scratch is not None and not scratch.scratch_chat:
            raise ValueError("prompt_form: tools needs a chat template, want scratch_chat: true with it, got false")
        if self.environment.prompt_form == "tools" and not self.environment.use_chat_template:
            raise ValueError("prompt_form: tools needs use_chat_template: true, got false")
        return self

    @model_validator(mode="after")
    def _outside_agents_can_play(self) -> JobSpec:
        environment, scratch = self.environment, self.model.scratch
        if environment.interaction != OUTSIDE:
            if environment.environment == OUTSIDE:
                raise ValueError(f"environment: {OUTSIDE} needs interaction: {OUTSIDE}, got {environment.interaction}")
            return self
        if not environment.use_chat_template or (scratch is not None and not scratch.scratch_chat):
            key = "scratch_chat" if environment.use_chat_template else "use_chat_template"
            raise ValueError(f"interaction: {OUTSIDE} needs a chat template, want {key}: true with it, got false")
        if self.rollout.guided_decoding is not None:
            raise ValueError(f"guided_decoding: want none with interaction: {OUTSIDE} (agents write the prompts)")
        if self.inference.deterministic:
            raise ValueError(
                f"deterministic: want false with interaction: {OUTSIDE} (an agent may do otherwise), got true"
            )
        return self

    @model_validator(mode="after")
    def _tokens_have_room(self) -> JobSpec:
        alone = self.environment.max_prompt_tokens + self.rollout.max_completion_length
        context = self.environment.max_context_tokens
        if context is not None and context < alone:
            raise ValueError(
                f"max_context_tokens: want >= max_prompt_tokens + max_completion_length = {alone}, got {context}"
            )
        if self.prompt_and_response_tokens > self.max_model_len:
            name = "max_prompt_tokens + max_completion_length" if context is None else "max_context_tokens"
            key = "vllm_max_model_len" if self.inference.vllm_max_model_len else "max_position_embeddings"
            raise ValueError(f"{name}: want <= {self.max_model_len} ({key}), got {self.prompt_and_response_tokens}")
        return self

    @model_validator(mode="after")
    def _sections_leave_each_other_an_effect(self) -> JobSpec:
        values = {
            "max_turns": self.environment.max_turns,
            "advantage_estimator": self.algorithm.advantage_estimator,
        }
        if (problem := without_effect(_BESIDE_TURNS, values, self.algorithm.changed)) is not None:
            raise ValueError(problem)
        return self

    @model_validator(mode="after")
    def _single_turn_is_whole(self) -> JobSpec:
        environment, functions, gym = self.environment, self.rewards.reward_funcs, self.environment.use_gym_env
        if gym == (environment.environment == SINGLE_TURN):
            raise ValueError(
                f"use_gym_env: want false with environment: {SINGLE_TURN} and true with every other one, "
                f"got {str(gym).lower()} and {environment.environment}"
            )
        if gym and functions:
            raise ValueError(f"reward_funcs: want use_gym_env: false with them, got true and {', '.join(functions)}")
        if not gym and not functions:
            known = ", ".join(BUILT_IN_REWARDS)
            raise ValueError(f"reward_funcs: want at least one with use_gym_env: false, such as {known}; got none")
        if self.algorithm.scale_rewards == "gdpo" and not functions:
            raise ValueError(
                "scale_rewards: gdpo scales each reward function separately, want reward_funcs with it, got none"
            )
        if not gym and environment.max_turns != 1:
            raise ValueError(f"max_turns: want 1 with use_gym_env: false, got {environment.max_turns}")
        return self

    @model_validator(mode="after")
    def _guided_decoding_has_actions(self) -> JobSpec:
        if self.rollout.guided_decoding is None:
            return self
        if not self.environment.use_gym_env:
            raise ValueError(
                "guided_decoding: want use_gym_env: true with admissible_actions (answers to prompts are no list), "
                "got use_gym_env: false"
            )
        if "speculative_config" in self.inference.vllm_engine_kwargs:
            raise ValueError(
                "guided_decoding: want no speculative_config in vllm_engine_kwargs with it, because vLLM does not "
                "restrict what it speculates on; got one"
            )
        return self

    @model_validator(mode="after")
    def _truncation_is_recorded(self) -> JobSpec:
        rollout = self.rollout
        tokens = self.environment.max_turns * rollout.max_completion_length
        if sentence := why_not_truncated(rollout.top_k, {"top_p": rollout.top_p, "min_p": rollout.min_p}, tokens):
            raise ValueError(sentence)
        if rollout.top_k and rollout.guided_decoding:
            raise ValueError("top_k: want 0 with guided_decoding, which chooses among whole replies, got both")
        if rollout.top_k and "speculative_config" in self.inference.vllm_engine_kwargs:
            raise ValueError(
                "top_k: want no speculative_config in vllm_engine_kwargs with it, because vLLM does not say which "
                "tokens a speculated one was sampled among; got both"
            )
        return self

    @model_validator(mode="after")
    def _settings_have_one_place(self) -> JobSpec:
        warmstart = self.model.warmstart.warmstart_environment_kwargs if self.model.warmstart else {}
        given: dict[str, Mapping[str, object]] = {
            "environment_kwargs": self.environment.environment_kwargs,
            "warmstart_environment_kwargs": warmstart,
            **{f"environment_rows.{at}": row for at, row in enumerate(self.environment.environment_rows)},
        }
        for key, kwargs in given.items():
            for name, place in (("max_turns", "environment.max_turns"), ("rewards", "the section rewards")):
                if name in kwargs:
                    raise ValueError(
                        f"{key}.{name}: want it in {place}, which the environment's sessions use, got it here"
                    )
        return self

    @model_validator(mode="after")
    def _each_member_is_a_job(self) -> JobSpec:
        for at, member in enumerate(self.environment.mixture):
            document = {name: dict(section) for name, section in self if isinstance(section, Section)}
            document["environment"] |= {**member.changes, "mixture": []}
            try:
                JobSpec.model_validate({"name": self.name, **document})
            except ValidationError as error:
                field, sentence = told(JobSpec, error.errors()[0])
                place = field.removeprefix("environment").removeprefix(".")
                raise ValueError(f"environment.mixture.{at}{place and '.' + place}: {sentence}") from None
        return self

    @property
    def parts(self) -> dict[str, JobSpec]:
        """Name of a member -> the spec of its groups; without a mixture the spec itself, under the empty name."""
        return {one.member: self._part(one) for one in self.environment.mixture} or {"": self}

    def member_at(self, purpose: Purpose, cursor: int) -> str:
        """The member that a group is of; empty without a mixture."""
        members = self.environment.mixture
        return drawn_member(members, self.training.seed, purpose, cursor).member if members else ""

    def part(self, member: str) -> JobSpec:
        """The spec that a member's groups have. KeyError: there is no such member."""
        return self.parts[member]

    def _part(self, member: Member) -> JobSpec:
        return self.model_copy(update={"environment": self.environment.of(member)})

    def _needs_a_chat_template(self) -> str | None:
        """An option that changes nothing where the tokenizer has no chat template."""
        options = ("chat_template_kwargs", "system_role")
        return next((option for option in options if self.environment.changed(option)), None)

    @property
    def prompt_and_response_tokens(self) -> int:
        """Longest sequence a step can need, tokens."""
        alone = self.environment.max_prompt_tokens + self.rollout.max_completion_length
        if self.environment.interaction == "steps":
            return alone
        room = self.model.scratch.max_position_embeddings if self.model.scratch else min(16 * alone, 8_192)
        return self.environment.max_context_tokens or max(room, alone)

    @property
    def max_model_len(self) -> int:
        """Longest sequence the engine is started for, tokens."""
        if (said := self.inference.vllm_max_model_len) is not None:
            return said
        return self.model.scratch.max_position_embeddings if self.model.scratch else self.prompt_and_response_tokens

    @property
    def checkpoints_activations(self) -> bool:
        """Whether the backward pass computes activations again, where the model's layers can."""
        asked = self.training.gradient_checkpointing
        return self.model.scratch is None if asked is None else asked

    def fingerprint(self) -> str:
        """32 hex digits over what decides which groups are opened on which tasks; not the name, not the algorithm."""
        environment = self.environment.model_dump(include={"environment", "environment_kwargs", "max_turns"})
        for name in ("mixture", "environment_rows"):
            if self.environment.changed(name):  # groups of earlier jobs keep their names
                environment |= self.environment.model_dump(include={name})
        decisive = {"seed": self.training.seed, "environment": environment, "n": self.rollout.num_generations}
        return hashlib.blake2b(json.dumps(decisive, sort_keys=True).encode(), digest_size=16).hexdigest()


class SpecError(ValueError):
    """A job spec that can't run. `problems` holds (field, sentence) pairs; the message joins them."""

    def __init__(self, problems: list[tuple[str, str]]) -> None:
        super().__init__("; ".join(f"{field}: {sentence}" if field else sentence for field, sentence in problems))
        self.problems = problems


def parse_spec(document: object) -> JobSpec:
    """The spec in a parsed YAML or JSON document.

    Raises:
        SpecError: names each field, what came and what is wanted.
    """
    if not isinstance(document, dict):
        raise SpecError([("", f"want a mapping of sections such as model and environment, got {kind_of(document)}")])
    try:
        return JobSpec.model_validate(document)
    except ValidationError as error:
        problems = sorted(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
        raise SpecError(
            [told(JobSpec, problem) for problem in problems]
        ) from None  # a misspelt key leaves others missing


def flags() -> dict[str, tuple[str, ...]]:
    """Every leaf's flag name -> its path in the spec: {"gamma": ("algorithm", "gamma"), ...}."""
    return leaf_paths(JobSpec)
