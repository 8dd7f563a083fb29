"""Estimates a job's needs from its spec alone, as upper bounds for unknown lengths, and warns of unwise settings."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from math import prod
from pathlib import Path

from services.contracts.environment import EnvironmentInfo
from services.contracts.job import JobSpec, ScratchModel
from services.contracts.rest.jobs import Estimates
from services.contracts.templates import plain_words

FLOAT32_BYTES = 4
ENGINE_CACHE_BYTES = 256 << 20
"""Key-value cache that an engine on a CPU is given by default; a GPU's takes what its own setting says."""
SCRATCH_SPECIAL_TOKENS = 3
"""What a policy from scratch has in its vocabulary beside the words of environment and template."""
_ACTIVATIONS_PER_TOKEN_AND_LAYER = 16
"""Numbers kept for the backward pass per token, layer and hidden unit: attention's and the MLP's inputs and outputs."""
_MOST_HEADER_BYTES = 100 << 20
"""Longest header that safetensors itself reads."""


def estimates(spec: JobSpec, environment: EnvironmentInfo, files: Mapping[str, Path] | None) -> Estimates:
    """What the job will need.

    Args:
        files: of the checkpoint that the job begins with; None: `model` says it.
    """
    parameters, shape = _policy(spec, environment, files)
    weight_bytes = FLOAT32_BYTES if spec.model.torch_dtype == "float32" else FLOAT32_BYTES // 2
    copies = 4 + (spec.algorithm.beta > 0)  # weights, gradients, two moments, the reference policy
    steps = spec.rollout.groups_per_batch * spec.rollout.num_generations * spec.environment.max_turns
    state_bytes = 3 * FLOAT32_BYTES * parameters
    return Estimates(
        parameters=parameters,
        trainer_memory_bytes=copies * parameters * weight_bytes + _activation_bytes(spec, shape),
        engine_memory_bytes=parameters * weight_bytes + ENGINE_CACHE_BYTES,
        prompt_tokens_per_batch=steps * spec.environment.max_prompt_tokens,
        response_tokens_per_batch=steps * spec.rollout.max_completion_length,
        env_steps_per_batch=steps,
        env_steps=steps * spec.training.total_batches,
        checkpoint_bytes=spec.checkpoint.checkpoint_keep * (parameters * weight_bytes + state_bytes)
        + parameters * weight_bytes,
    )


def warnings(spec: JobSpec) -> list[str]:
    """Sentences about settings that are allowed and seldom wanted."""
    rollout, training, evaluation = spec.rollout, spec.training, spec.evaluation
    found = {
        "num_generations: 1 episode a group has nothing to be compared with, every advantage is 0": (
            rollout.num_generations == 1
        ),
        f"minibatches: {training.minibatches} of a batch of {rollout.groups_per_batch} groups are small": (
            training.minibatches > rollout.groups_per_batch * rollout.num_generations
        ),
        "rollout_importance_sampling_mode: without it staleness biases the gradient": (
            rollout.max_staleness > 0 and spec.algorithm.rollout_importance_sampling_mode is None
        ),
        f"warmup_batches: {training.warmup_batches} is not less than total_batches {training.total_batches}": (
            0 < training.total_batches <= training.warmup_batches
        ),
        f"eval_episodes: {evaluation.eval_episodes} leave a standard error of up to "
        f"{0.5 / evaluation.eval_episodes**0.5:.2f}": evaluation.eval_episodes < 64,
        "checkpoint_every: the job ends before its first checkpoint, a crash starts it anew": (
            training.total_batches > 1 and spec.checkpoint.checkpoint_every > training.total_batches
        ),
        f"learning_rate: {training.learning_rate:g} will hardly move a policy from scratch": (
            spec.model.scratch is not None and training.total_batches > 0 and training.learning_rate < 1e-5
        ),
    }
    return [sentence for sentence, holds in found.items() if holds]


def scratch_parameters(scratch: ScratchModel, vocabulary: int) -> int:
    """Of a Qwen2 with tied embeddings, as many key-value heads as heads, and biases on queries, keys and values."""
    hidden, inner = scratch.hidden_size, scratch.intermediate_size
    attention = 4 * hidden * hidden + 3 * hidden
    layer = attention + 3 * hidden * inner + 2 * hidden
    return vocabulary * hidden + scratch.num_hidden_layers * layer + hidden


def file_parameters(path: Path) -> int:
    """Numbers in a safetensors file, read from its header; 0 for a file that is none."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8).ljust(8, b"\0"))
        try:
            header = json.loads(file.read(min(length, _MOST_HEADER_BYTES)) or b"{}")
        except ValueError:
            return 0
    return sum(prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")


def _policy(
    spec: JobSpec, environment: EnvironmentInfo, files: Mapping[str, Path] | None
) -> tuple[int, dict[str, int]]:
    """Parameters, and hidden_size, num_hidden_layers and vocab_size."""
    if scratch := spec.model.scratch:
        words = {*environment.vocabulary, *plain_words(environment.template(spec), environment.templates)}
        vocabulary = len(words) + SCRATCH_SPECIAL_TOKENS
        shape = {**scratch.model_dump(include={"hidden_size", "num_hidden_layers"}), "vocab_size": vocabulary}
        return scratch_parameters(scratch, vocabulary), shape
    folder = Path(str(spec.model.model))
    paths = {path.name: path for path in folder.iterdir()} if files is None else files
    parameters = sum(file_parameters(path) for name, path in paths.items() if name.endswith(".safetensors"))
    config: dict[str, object] = json.loads(paths["config.json"].read_bytes())
    names = ("hidden_size", "num_hidden_layers", "vocab_size")
    return parameters, {name: value for name in names if isinstance(value := config.get(name), int)}


def _activation_bytes(spec: JobSpec, shape: Mapping[str, int]) -> int:
    """One microbatch's: what the layers keep for the backward pass, and the logits with their gradient."""
    hidden, layers, vocabulary = (shape.get(name, 0) for name in ("hidden_size", "num_hidden_layers", "vocab_size"))
    kept_layers = 1 if spec.training.gradient_checkpointing else layers
    kept = _ACTIVATIONS_PER_TOKEN_AND_LAYER * kept_layers * hidden + layers * hidden * (kept_layers != layers)
    return spec.training.microbatch_tokens * (kept + 2 * vocabulary) * FLOAT32_BYTES
