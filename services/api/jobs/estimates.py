"""Estimates a job's needs, as upper bounds for unknown lengths, and warns of unwise settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from services.api.jobs.hub import HubModel
from services.api.jobs.rates import EarlierJob, time_range
from services.api.policies.config import CONFIG, size, text_config
from services.api.policies.folder import read_config
from services.api.policies.safetensors_header import file_parameters
from services.api.policies.weights import weight_files
from services.contracts.environment import EnvironmentInfo
from services.contracts.job import JobSpec, ScratchModel
from services.contracts.learner_memory import ONE_RANK, PROCESS_BYTES, Decoder, RankCount, learner_memory, weight_bytes
from services.contracts.rest.jobs import Estimates, Range
from services.contracts.section import Section
from services.contracts.truncation import kept_bytes

ENGINE_CACHE_BYTES = 256 << 20
"""Key-value cache that an engine on a CPU is given by default; a GPU's takes what its own setting says."""
SCRATCH_SPECIAL_TOKENS = 3
"""Entries in the vocabulary of a policy from scratch besides the words of environment and template."""
SCRATCH_CHAT_TOKENS = 7
"""The entries that its chat template adds."""
_STEP_BYTES, _TOKEN_BYTES, _ARCHIVED_STEP_BYTES = 1_000, 8, 700
"""Bytes of a step without its tokens, of a token, and of a step on disk: a group of some 100 short steps takes 103 kB,
packed 70 kB."""
_KEPT_POLICIES = 3
"""Published versions that lie on disk together."""
_TRAINED_BYTES = 4
"""Bytes of a trained weight and of each of its moments."""


def estimates(
    spec: JobSpec,
    environment: EnvironmentInfo,
    files: Mapping[str, Path] | HubModel | None,
    earlier: Sequence[EarlierJob] = (),
    ranks: RankCount = ONE_RANK,
) -> Estimates:
    """Estimate the job's needs.

    Args:
        files: of the checkpoint that the job begins with, or its model on the hub; None: `model` names a folder.
        earlier: jobs in the same environment that the time is estimated by.
        ranks: of the learner that trains it.
    """
    model = _policy(spec, environment, files)
    parameters = model.parameters
    policy_bytes = parameters * weight_bytes(spec)
    prompt, response = spec.environment.max_prompt_tokens, spec.rollout.max_completion_length
    episodes = spec.rollout.groups_per_batch * spec.rollout.num_generations
    steps = episodes * spec.environment.max_turns
    all_steps = steps * spec.training.total_batches
    rank = spec.model.adapter_rank
    trained = _TRAINED_BYTES * (model.adapter_parameters(rank) if rank else parameters)
    checkpoint_bytes = spec.checkpoint.checkpoint_keep * (policy_bytes + 3 * trained) + policy_bytes
    version_bytes = policy_bytes if spec.model.tuner_type == "full" else trained
    memory = learner_memory(spec, model, ranks)
    kept = kept_bytes(spec.rollout.top_k, response)
    queued = (spec.rollout.max_staleness + 1) * steps
    time = time_range(spec, parameters, episodes * spec.training.total_batches, earlier)
    needs = Estimates(
        parameters=parameters,
        trainer_memory_bytes=memory.peak + PROCESS_BYTES,
        trainer_ranks=ranks.number,
        engine_memory_bytes=policy_bytes + ENGINE_CACHE_BYTES,
        prompt_tokens_per_batch=episodes * _prompt_tokens(spec),
        response_tokens_per_batch=steps * response,
        env_steps_per_batch=steps,
        env_steps=all_steps,
        checkpoint_bytes=checkpoint_bytes,
        queue_memory_bytes=queued * (_STEP_BYTES + _TOKEN_BYTES * (prompt + response) + kept),
        disk_bytes=checkpoint_bytes + _KEPT_POLICIES * version_bytes + all_steps * (_ARCHIVED_STEP_BYTES + kept),
        time_s=time[0] if time else None,
    )
    ranges = _ranges(spec, needs, memory.states, policy_bytes)
    return needs.model_copy(update={"ranges": {**ranges, "time_s": time[1]} if time else ranges})


def _ranges(spec: JobSpec, needs: Estimates, states: int, policy_bytes: int) -> dict[str, Range]:
    """How far each estimate may be off: below `low` the job cannot work."""
    trainer, engine, queue = needs.trainer_memory_bytes, needs.engine_memory_bytes, needs.queue_memory_bytes
    episodes = spec.rollout.groups_per_batch * spec.rollout.num_generations
    return {
        "trainer_memory_bytes": Range(
            low=states,
            high=1.5 * trainer,
            basis="of each rank: from weights, gradients and moments alone to half as much again",
        ),
        "engine_memory_bytes": Range(
            low=policy_bytes,
            high=1.2 * engine + 3 * PROCESS_BYTES,
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


def _prompt_tokens(spec: JobSpec) -> int:
    """Tokens of all prompts of an episode, at most. Each turn of a conversation reads the earlier ones again."""
    environment, reply = spec.environment, spec.rollout.max_completion_length
    first, turns = environment.max_prompt_tokens, environment.max_turns
    if environment.interaction == "steps":
        return turns * first
    longest, more = spec.prompt_and_response_tokens - reply, first + reply
    growing = min(turns, (longest - first) // more + 1)  # turns whose past is whole; the others are cut to `longest`
    return growing * first + more * growing * (growing - 1) // 2 + (turns - growing) * longest


Doubt = tuple[str, bool, Section, str]
"""A sentence, whether it is true of the job, and the setting without which nobody asked for it."""


def warnings(spec: JobSpec) -> list[str]:
    """Sentences about settings that are allowed and seldom wanted; none about a default that nobody has set."""
    doubts = (*_of_sampling(spec), *_of_training(spec))
    return [sentence for sentence, holds, section, key in doubts if holds and key in section.model_fields_set]


def _of_sampling(spec: JobSpec) -> tuple[Doubt, ...]:
    rollout, evaluation = spec.rollout, spec.evaluation
    nothing = "num_generations: with 1 episode per group there is nothing to compare, so every advantage is 0"
    stale = "rollout_importance_sampling_mode: without one, staleness biases the gradient"
    uncorrected = rollout.max_staleness > 0 and spec.algorithm.rollout_importance_sampling_mode is None
    error = 0.5 / evaluation.eval_episodes**0.5
    few = f"eval_episodes: {evaluation.eval_episodes} leave a standard error of up to {error:.2f}"
    return (
        (nothing, rollout.num_generations == 1, rollout, "num_generations"),
        (stale, uncorrected, rollout, "max_staleness"),
        (few, evaluation.eval_episodes < 64, evaluation, "eval_episodes"),
    )


def _of_training(spec: JobSpec) -> tuple[Doubt, ...]:
    training, checkpoint, groups = spec.training, spec.checkpoint, spec.rollout.groups_per_batch
    total, warmup, rate = training.total_batches, training.warmup_batches, training.learning_rate
    small = f"minibatches: {training.minibatches} of a batch of {groups} groups are small"
    long = f"warmup_batches: {warmup} is not less than total_batches {total}"
    none = "checkpoint_every: the job ends before its first checkpoint, so a crash restarts it from the beginning"
    slow = f"learning_rate: {rate:g} will hardly change a policy from scratch"
    return (
        (small, training.minibatches > groups * spec.rollout.num_generations, training, "minibatches"),
        (long, 0 < total <= warmup, training, "warmup_batches"),
        (none, 1 < total < checkpoint.checkpoint_every, checkpoint, "checkpoint_every"),
        (slow, spec.model.scratch is not None and total > 0 and rate < 1e-5, spec.model, "scratch"),
    )


def scratch_parameters(scratch: ScratchModel, vocabulary: int) -> int:
    """Count the parameters of a Qwen2 with tied embeddings, as many key-value heads as heads, and biases on queries,
    keys and values."""
    hidden, inner = scratch.hidden_size, scratch.intermediate_size
    attention = 4 * hidden * hidden + 3 * hidden
    layer = attention + 3 * hidden * inner + 2 * hidden
    return vocabulary * hidden + scratch.num_hidden_layers * layer + hidden


def _policy(spec: JobSpec, environment: EnvironmentInfo, files: Mapping[str, Path] | HubModel | None) -> Decoder:
    if scratch := spec.model.scratch:
        words = {*environment.scratch_words(spec)}
        vocabulary = len(words) + SCRATCH_SPECIAL_TOKENS + scratch.scratch_chat * SCRATCH_CHAT_TOKENS
        return Decoder(
            scratch_parameters(scratch, vocabulary),
            scratch.hidden_size,
            scratch.intermediate_size,
            scratch.num_hidden_layers,
            vocabulary,
            scratch.hidden_size,
        )
    if isinstance(files, HubModel):
        return decoder(files.parameters, files.config)
    if files is None:
        folder = Path(str(spec.model.model))
        weights, config = weight_files(folder), folder / CONFIG
    else:
        weights, config = [path for name, path in files.items() if name.endswith(".safetensors")], files[CONFIG]
    return decoder(sum(map(file_parameters, weights)), read_config(config))


def decoder(parameters: int, config: Mapping[str, object]) -> Decoder:
    """The sizes that a model's config.json says."""

    def said(name: str) -> int:
        found = size(config, name)
        return 0 if found is None else found[1]

    return Decoder.of(parameters, said, tied=text_config(config).get("tie_word_embeddings") is not False)
