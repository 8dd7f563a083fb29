"""Estimates a job's needs, as upper bounds for unknown lengths, and warns of unwise settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from services.api.jobs.hub import HubModel
from services.api.jobs.rates import EarlierJob, time_range
from services.api.policies.config import CONFIG, size
from services.api.policies.folder import read_config
from services.api.policies.safetensors_header import file_parameters
from services.api.policies.weights import weight_files
from services.contracts.environment import EnvironmentInfo
from services.contracts.job import JobSpec, ScratchModel
from services.contracts.rest.jobs import Estimates, Range
from services.contracts.templates import plain_words

FLOAT32_BYTES = 4
ENGINE_CACHE_BYTES = 256 << 20
"""Key-value cache that an engine on a CPU is given by default; a GPU's takes what its own setting says."""
SCRATCH_SPECIAL_TOKENS = 3
"""What a policy from scratch has in its vocabulary beside the words of environment and template."""
_ACTIVATIONS_PER_TOKEN_AND_LAYER = 16
"""Numbers kept for the backward pass per token, layer and hidden unit: attention's and the MLP's inputs and outputs."""
_STEP_BYTES, _TOKEN_BYTES, _ARCHIVED_STEP_BYTES = 1_000, 8, 700
"""Of a step without its tokens, of a token, and of a step on disk: a group of some 100 short steps takes 103 kB, packed
70 kB."""
_KEPT_POLICIES = 3
"""Published versions that lie on disk together."""
_PROCESS_BYTES = 600_000_000
"""A process with torch, before it does anything."""


def estimates(
    spec: JobSpec,
    environment: EnvironmentInfo,
    files: Mapping[str, Path] | HubModel | None,
    earlier: Sequence[EarlierJob] = (),
) -> Estimates:
    """What the job will need.

    Args:
        files: of the checkpoint that the job begins with, or its model on the hub; None: `model` names a folder.
        earlier: jobs in the same environment that the time is estimated by.
    """
    parameters, shape = _policy(spec, environment, files)
    policy_bytes = parameters * _weight_bytes(spec)
    prompt, response = spec.environment.max_prompt_tokens, spec.rollout.max_completion_length
    episodes = spec.rollout.groups_per_batch * spec.rollout.num_generations
    steps = episodes * spec.environment.max_turns
    all_steps = steps * spec.training.total_batches
    checkpoint_bytes = spec.checkpoint.checkpoint_keep * (policy_bytes + 3 * FLOAT32_BYTES * parameters) + policy_bytes
    queued = (spec.rollout.max_staleness + 1) * steps
    time = time_range(spec, parameters, episodes * spec.training.total_batches, earlier)
    needs = Estimates(
        parameters=parameters,
        trainer_memory_bytes=_copies(spec) * policy_bytes + _activation_bytes(spec, shape),
        engine_memory_bytes=policy_bytes + ENGINE_CACHE_BYTES,
        prompt_tokens_per_batch=steps * prompt,
        response_tokens_per_batch=steps * response,
        env_steps_per_batch=steps,
        env_steps=all_steps,
        checkpoint_bytes=checkpoint_bytes,
        queue_memory_bytes=queued * (_STEP_BYTES + _TOKEN_BYTES * (prompt + response)),
        disk_bytes=checkpoint_bytes + _KEPT_POLICIES * policy_bytes + all_steps * _ARCHIVED_STEP_BYTES,
        time_s=time[0] if time else None,
    )
    ranges = _ranges(spec, needs, policy_bytes)
    return needs.model_copy(update={"ranges": {**ranges, "time_s": time[1]} if time else ranges})


def _ranges(spec: JobSpec, needs: Estimates, policy_bytes: int) -> dict[str, Range]:
    """How far each estimate may be off: below `low` the job cannot work."""
    trainer, engine, queue = needs.trainer_memory_bytes, needs.engine_memory_bytes, needs.queue_memory_bytes
    episodes = spec.rollout.groups_per_batch * spec.rollout.num_generations
    return {
        "trainer_memory_bytes": Range(
            low=_copies(spec) * policy_bytes,
            high=1.5 * trainer + _PROCESS_BYTES,
            basis="from weights, gradients and moments alone to half as much again and the process itself",
        ),
        "engine_memory_bytes": Range(
            low=policy_bytes,
            high=1.2 * engine + 2 * _PROCESS_BYTES,
            basis="from the weights alone to a fifth more and the engine's processes",
        ),
        "queue_memory_bytes": Range(
            low=episodes * _STEP_BYTES, high=2 * queue, basis="from one step an episode to long texts in every step"
        ),
        "disk_bytes": Range(
            low=needs.checkpoint_bytes,
            high=needs.disk_bytes + 4 * needs.env_steps * _ARCHIVED_STEP_BYTES,
            basis="from the checkpoints alone to long texts in every rollout",
        ),
        "env_steps": Range(
            low=episodes * spec.training.total_batches,
            high=needs.env_steps,
            basis="from one step an episode to every episode at its longest",
        ),
    }


def warnings(spec: JobSpec) -> list[str]:
    """Sentences about settings that are allowed and seldom wanted."""
    rollout, training, evaluation = spec.rollout, spec.training, spec.evaluation
    found = {
        "num_generations: with 1 episode per group there is nothing to compare, so every advantage is 0": (
            rollout.num_generations == 1
        ),
        f"minibatches: {training.minibatches} of a batch of {rollout.groups_per_batch} groups are small": (
            training.minibatches > rollout.groups_per_batch * rollout.num_generations
        ),
        "rollout_importance_sampling_mode: without one, staleness biases the gradient": (
            rollout.max_staleness > 0 and spec.algorithm.rollout_importance_sampling_mode is None
        ),
        f"warmup_batches: {training.warmup_batches} is not less than total_batches {training.total_batches}": (
            0 < training.total_batches <= training.warmup_batches
        ),
        f"eval_episodes: {evaluation.eval_episodes} leave a standard error of up to "
        f"{0.5 / evaluation.eval_episodes**0.5:.2f}": evaluation.eval_episodes < 64,
        "checkpoint_every: the job ends before its first checkpoint, so a crash restarts it from the beginning": (
            training.total_batches > 1 and spec.checkpoint.checkpoint_every > training.total_batches
        ),
        f"learning_rate: {training.learning_rate:g} will hardly change a policy from scratch": (
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


def _policy(
    spec: JobSpec, environment: EnvironmentInfo, files: Mapping[str, Path] | HubModel | None
) -> tuple[int, dict[str, int]]:
    """Parameters, and hidden_size, num_hidden_layers and vocab_size."""
    if scratch := spec.model.scratch:
        words = {*environment.vocabulary, *plain_words(environment.template(spec), environment.templates)}
        vocabulary = len(words) + SCRATCH_SPECIAL_TOKENS
        shape = {**scratch.model_dump(include={"hidden_size", "num_hidden_layers"}), "vocab_size": vocabulary}
        return scratch_parameters(scratch, vocabulary), shape
    if isinstance(files, HubModel):
        return files.parameters, _shape(files.config)
    if files is None:
        folder = Path(str(spec.model.model))
        weights, config = weight_files(folder), folder / CONFIG
    else:
        weights, config = [path for name, path in files.items() if name.endswith(".safetensors")], files[CONFIG]
    return sum(map(file_parameters, weights)), _shape(read_config(config))


def _shape(config: Mapping[str, object]) -> dict[str, int]:
    sizes = {name: size(config, name) for name in ("hidden_size", "num_hidden_layers", "vocab_size")}
    return {name: found[1] for name, found in sizes.items() if found is not None}


def _weight_bytes(spec: JobSpec) -> int:
    return FLOAT32_BYTES if spec.model.torch_dtype == "float32" else FLOAT32_BYTES // 2


def _copies(spec: JobSpec) -> int:
    """Weights, gradients, two moments, the reference policy."""
    return 4 + (spec.algorithm.beta > 0)


def _activation_bytes(spec: JobSpec, shape: Mapping[str, int]) -> int:
    """One microbatch's: what the layers keep for the backward pass, and the logits with their gradient."""
    hidden, layers, vocabulary = (shape.get(name, 0) for name in ("hidden_size", "num_hidden_layers", "vocab_size"))
    kept_layers = 1 if spec.training.gradient_checkpointing else layers
    kept = _ACTIVATIONS_PER_TOKEN_AND_LAYER * kept_layers * hidden + layers * hidden * (kept_layers != layers)
    return spec.training.microbatch_tokens * (kept + 2 * vocabulary) * FLOAT32_BYTES
