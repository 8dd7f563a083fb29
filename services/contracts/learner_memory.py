"""The memory of one rank of a learner: what it keeps, and the most it needs at a time. One estimate for all who ask.

`benchmarks/memory.py` compares it with what processes really take.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.contracts.job import JobSpec

PROCESS_BYTES = 400_000_000
"""A process with torch and transformers before it does anything: 345 MB on a CPU. A GPU's context takes as much."""
HEAD_ELEMENTS = 1 << 28
"""Most logits that a learner holds at once (1 GiB in float32); more are recomputed in the backward pass."""
_MOST_FREED, _FREED_SHARE = 400_000_000, 6
"""Memory that an allocator keeps of tensors which came and went in a pass: 310 to 450 MB where the activations were 66
MB, and 150 MB in bfloat16, measured on a CPU. malloc gives tensors above 32 MB back at once, so it does not grow with
them."""
_FLOAT, _HALF = 4, 2
_LINEAR_LAYERS = 7
"""Linear layers of a decoder layer with a gated MLP; each may have an adapter."""


Offload = Literal["none", "reference", "all"]
"""What is kept in main memory while a GPU does not need it."""


@dataclass(frozen=True)
class RankCount:
    """How many ranks a learner has, and what they keep off their devices."""

    number: int = 1
    sharded: int = 1
    """Number of ranks that share one copy of the states."""
    offload: Offload = "none"


ONE_RANK = RankCount()


class RankSettings(BaseSettings):
    """The group of ranks of this installation's learner: environment variables TRAINER_*."""

    model_config = SettingsConfigDict(env_prefix="TRAINER_", frozen=True)

    ranks: int = Field(1, ge=1)
    """Processes that train a policy together, each on a device of its own."""
    shard_ranks: int = Field(0, ge=0)
    """Number of ranks that share one copy of weights and optimizer; ranks / shard_ranks copies are kept equal; 0:
    all."""

    offload: Offload = "none"
    """What each rank keeps in main memory, and moves to its GPU layer by layer: the reference policy, or all weights,
    gradients and moments; the optimizer computes on the CPU then."""

    @model_validator(mode="after")
    def _whole_copies(self) -> RankSettings:
        if self.shard_ranks and self.ranks % self.shard_ranks:
            raise ValueError(f"shard_ranks: want a divisor of ranks = {self.ranks}, got {self.shard_ranks}")
        return self

    @property
    def count(self) -> RankCount:
        """The same as numbers."""
        return RankCount(self.ranks, self.shard_ranks or self.ranks, self.offload)


@dataclass(frozen=True)
class Decoder:
    """The sizes of a model; 0 where a config does not say it."""

    parameters: int
    hidden: int = 0
    inner: int = 0
    """Width of the feed-forward layers."""
    layers: int = 0
    vocabulary: int = 0
    key_value: int = 0
    """Width of all keys of a layer."""
    tied: bool = True
    """Head and embeddings are one tensor."""

    @classmethod
    def of(cls, parameters: int, size: Callable[[str], int], *, tied: bool) -> Decoder:
        """The decoder whose config.json gives these sizes, by the name of each; 0 where it does not say one."""
        heads = size("num_attention_heads")
        width = size("head_dim") or size("hidden_size") // max(heads, 1)
        return cls(
            parameters,
            size("hidden_size"),
            size("intermediate_size"),
            size("num_hidden_layers"),
            size("vocab_size"),
            width * (size("num_key_value_heads") or heads),
            tied,
        )

    def adapter_parameters(self, rank: int) -> int:
        """Most parameters of adapters on every linear layer of a decoder with a gated MLP."""
        inner = self.inner or 4 * self.hidden  # what a config that does not say it means
        width = 4 * 2 * self.hidden + 3 * (self.hidden + inner)
        return self.layers * rank * width

    @property
    def outer(self) -> int:
        """Parameters of embeddings and head."""
        return self.vocabulary * self.hidden * (2 - self.tied)

    @property
    def layer(self) -> int:
        """Parameters of one layer, at least."""
        return max(self.parameters - self.outer, 0) // max(self.layers, 1)


@dataclass(frozen=True)
class Load:
    """Size of one forward and backward pass."""

    tokens: int
    responses: int
    """Tokens whose log-probabilities are wanted."""


@dataclass(frozen=True)
class LearnerMemory:
    """Bytes of one rank, its process not counted."""

    states: int
    """Weights, gradients, moments and the reference: what is always there."""
    activations: int
    """Kept by one forward pass for its backward pass, and the logits."""
    gathered: int
    """Weights and gradients that are there for a moment: whole ones of a group, casts, the head's gradient."""

    freed: int = 0
    """Not in use, but kept by the allocator."""

    @property
    def peak(self) -> int:
        return self.states + self.activations + self.gathered + self.freed


def learner_memory(
    spec: JobSpec, model: Decoder, ranks: RankCount = ONE_RANK, load: Load | None = None
) -> LearnerMemory:
    """Estimate the memory of one rank of the job's learner.

    Args:
        load: of a micro-batch; None: the largest that the spec allows.
    """
    activations = _activations(spec, model, load or largest_load(spec))
    return LearnerMemory(
        states=_states(spec, model, ranks.offload) // ranks.sharded,
        activations=activations,
        gathered=_gathered(spec, model) if ranks.number > 1 or ranks.offload != "none" else _passing(spec, model),
        freed=min(_FREED_SHARE * activations, _MOST_FREED) * weight_bytes(spec) // _FLOAT,
    )


def largest_load(spec: JobSpec) -> Load:
    """Size a pass of the longest prompts and responses; a sequence longer than the budget goes alone."""
    longest = spec.prompt_and_response_tokens
    tokens = max(spec.training.microbatch_tokens, longest)
    turns = spec.environment.max_turns if spec.environment.interaction != "steps" else 1
    responses = min(turns * spec.rollout.max_completion_length, longest)
    return Load(tokens, tokens * responses // longest)


def weight_bytes(spec: JobSpec) -> int:
    """Bytes of one weight in the job's torch_dtype."""
    return _FLOAT if spec.model.torch_dtype == "float32" else _HALF


def _states(spec: JobSpec, model: Decoder, offload: Offload) -> int:
    """Trained weights are float32 with a gradient and two moments; a reference is float32. Adapters stand beside frozen
    weights in the job's torch_dtype, which are the reference too. Of what is offloaded nothing stays."""
    if offload == "all":
        return 0
    if rank := spec.model.adapter_rank:
        return model.parameters * weight_bytes(spec) + 4 * _FLOAT * model.adapter_parameters(rank)
    return (4 + (spec.algorithm.beta > 0 and offload == "none")) * _FLOAT * model.parameters


def _activations(spec: JobSpec, model: Decoder, load: Load) -> int:
    layer = _layer_activations(spec, model)
    kept = model.layers * layer
    if spec.checkpoints_activations:
        kept = model.layers * model.hidden * (_residual_bytes(spec)) + layer
    return load.tokens * kept + _logits(spec, model, load)


def _layer_activations(spec: JobSpec, model: Decoder) -> int:
    """Bytes of a token in one layer, as autograd keeps them of a decoder with a gated MLP and fused attention.

    Kept are the residual stream and both norms (not their factors' inputs where these are frozen), the inputs of every
    product, queries, keys, values and the attention's output, and four widths of the MLP.
    """
    hidden, inner, keys = model.hidden, model.inner or 4 * model.hidden, 2 * (model.key_value or model.hidden)
    rank = spec.model.adapter_rank
    if spec.model.torch_dtype == "float32":
        return _FLOAT * ((6 if rank else 8) * hidden + keys + 4 * inner + _LINEAR_LAYERS * rank)
    if rank:  # frozen bfloat16 weights: the stream is bfloat16, what norms compute is float32
        return _FLOAT * 2 * hidden + _HALF * (5 * hidden + keys + 4 * inner + _LINEAR_LAYERS * rank)
    return _FLOAT * 5 * hidden + _HALF * (5 * hidden + keys + 4 * inner)


def _residual_bytes(spec: JobSpec) -> int:
    return _HALF if spec.model.adapter_rank and spec.model.torch_dtype == "bfloat16" else _FLOAT


def _logits(spec: JobSpec, model: Decoder, load: Load) -> int:
    """The distribution, its gradient, and one more copy while either is made; so again for an entropy's gradient."""
    copies = 5 if spec.algorithm.entropy_coef > 0 else 3
    return copies * _FLOAT * min(load.responses * model.vocabulary, HEAD_ELEMENTS)


def _passing(spec: JobSpec, model: Decoder) -> int:
    """Alone: the head's gradient before it is added, the embeddings' too, and bfloat16 casts of trained weights."""
    if spec.model.adapter_rank:
        return 0
    casts = _HALF * model.parameters if spec.model.torch_dtype == "bfloat16" else 0
    return casts + 2 * _FLOAT * model.vocabulary * model.hidden


def _gathered(spec: JobSpec, model: Decoder) -> int:
    """Count what is gathered on ranks: whole embeddings and head with their gradients, and three layers: the one that
    computes, the next one, and the one whose gradients travel."""
    inside = weight_bytes(spec)
    if spec.model.adapter_rank:
        return inside * (model.outer + 2 * model.layer)
    return 2 * inside * model.outer + 3 * _FLOAT * model.layer
