"""A job file to begin with: the keys that people change, each with what it is, for one environment and model."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

from gigpo.client.flags import key_help
from gigpo.client.migration.translation import plain
from services.contracts.agents import OUTSIDE
from services.contracts.environment import EnvironmentInfo
from services.contracts.job import SINGLE_TURN, flags
from services.presentation.schema_words import kwargs_in_words

_WIDTH = 100
_SCRATCH = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 512,
    "warmstart_rows": 20_000,
    "warmstart_steps": 500,
    "warmstart_max_invalid": 0.2,
    "max_prompt_tokens": 384,
    "max_completion_length": 16,
    "learning_rate": 1.5e-3,
    "beta": 0.03,
}
"""Settings for a small policy from scratch: those of the default job, with room for longer texts."""
_PRETRAINED = {
    "torch_dtype": "bfloat16",
    "max_prompt_tokens": 2048,
    "max_completion_length": 512,
    "learning_rate": 1e-6,
    "beta": 0.01,
}
_COMMON = {
    "groups_per_batch": 16,
    "num_generations": 8,
    "total_batches": 100,
    "minibatches": 8,
    "seed": 0,
    "eval_episodes": 128,
    "eval_every": 25,
    "checkpoint_every": 10,
    "engine": "vllm",
}


def new_job(info: EnvironmentInfo, model: str | None, name: str | None) -> str:
    """The text of a job file that can be run as it stands.

    Args:
        model: a folder in Hugging Face format; None: a small policy from scratch, which needs a vocabulary.
    """
    values: dict[str, Any] = {**_COMMON, **(_PRETRAINED if model else _SCRATCH)}
    if name:
        values["name"] = name
    if model:
        values["model"] = model
    values |= _task(info)
    lines = ["# A job of `gigpo train`. Every key can be given as a flag too, and a flag wins over this file."]
    lines += ["# Other keys, and all that a key can be: `gigpo train --help`."]
    section: tuple[str, ...] = ()
    for key, path in flags().items():
        if key not in values:
            continue
        if path[:-1] != section:
            new = [part for depth, part in enumerate(path[:-1]) if section[: depth + 1] != path[: depth + 1]]
            depth = len(path) - 1 - len(new)
            lines += ["", *(f"{'  ' * (depth + i)}{part}:" for i, part in enumerate(new))]
            section = path[:-1]
        indent = "  " * len(section)
        lines += textwrap.wrap(key_help(key), _WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")
        lines.append(f"{indent}{key}: {plain(values[key])}")
        if key == "environment_kwargs":
            lines += _kwargs_comments(info, indent)
    return "\n".join(lines) + "\n"


def _task(info: EnvironmentInfo) -> dict[str, Any]:
    splits = info.splits
    task: dict[str, Any] = {
        "environment": info.id,
        "environment_kwargs": {},
        "max_turns": info.default_max_turns,
        "eval_split": next((split for split in splits if split != splits[0]), splits[0]),
        "advantage_estimator": "gigpo" if info.gives_anchors else "grpo",
    }
    if splits[0] != "train":
        task["train_split"] = splits[0]
    if info.id == SINGLE_TURN:
        task |= {"use_gym_env": False, "reward_funcs": ["accuracy"]}
    if info.id == OUTSIDE:  # a baseline plays prompts, which no agent writes here
        task |= {"interaction": OUTSIDE, "eval_baselines": False}
    return task


def _kwargs_comments(info: EnvironmentInfo, indent: str) -> list[str]:
    """The environment's own keys, as comments to fill in."""
    lines = []
    for key in kwargs_in_words(info.kwargs_schema):
        if key.name in ("max_turns", "rewards"):  # the job's sections say them
            continue
        text = f"  {key.name}: {key.values}" + (f" ({key.default})" if key.default else " (has to be given)")
        said = f"{text}. {key.description}".rstrip(". ")
        lines += textwrap.wrap(
            said, _WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}#       ", break_long_words=False
        )
    return lines


def required_kwargs(info: EnvironmentInfo) -> list[str]:
    """Keys of environment_kwargs that have no default."""
    schema: Mapping[str, Any] = info.kwargs_schema
    return list(schema.get("required", ()))
