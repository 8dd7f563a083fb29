"""Small policies and rows that the learner's tests share."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from gigpo_core import Turn, lone_turn
from gigpo_core.turns import Allowed
from services.contracts.guidance import pack_allowed
from services.contracts.job import JobSpec, ScratchModel
from services.trainer.learner.policy import build_scratch
from services.trainer.learner.rows import Row

VOCABULARY = ["go", "take", "put", "north", "south", "apple", "box", "at", "see", ".", "act", "4"]
SCRATCH = ScratchModel(hidden_size=32, intermediate_size=48, num_attention_heads=1, max_position_embeddings=64)
torch.set_num_threads(1)  # as the embedded stack sets it; and sums come in one order

TOKENS = len(VOCABULARY) + 3
EOS = 1


def scratch_folder(folder: Path, seed: int = 0) -> Path:
    """A policy of two layers and 15 tokens."""
    build_scratch(SCRATCH, VOCABULARY, seed, folder)
    return folder


def job_spec(**leaves: Any) -> JobSpec:
    """A spec for that policy; leaves go to the section that has them."""
    sections: dict[str, dict[str, Any]] = {
        "model": {"scratch": SCRATCH.model_dump()},
        "environment": {"max_prompt_tokens": 32},
        "algorithm": {"advantage_estimator": "gigpo", "beta": 0.0},
        "rollout": {"max_completion_length": 8},
        "training": {"learning_rate": 1e-3, "minibatches": 2, "total_batches": 10},
    }
    for name, field in JobSpec.model_fields.items():
        known = getattr(field.annotation, "model_fields", {})
        sections.setdefault(name, {}).update({leaf: leaves.pop(leaf) for leaf in list(leaves) if leaf in known})
    assert not leaves, leaves
    return JobSpec.model_validate({name: leaves for name, leaves in sections.items() if leaves})


def random_rows(number: int, *, seed: int = 0, repeats: int = 0) -> list[Row]:
    """Rows of different lengths, advantages around 0, none of them 0; the first ones occur `repeats` times more."""
    draw = random.Random(seed)

    def ids(low: int, high: int) -> tuple[int, ...]:
        return tuple(draw.randrange(3, TOKENS) for _ in range(draw.randint(low, high)))

    pairs = [(ids(2, 20), (*ids(0, 4), EOS)) for _ in range(number)]
    return [row(prompt, response, draw.gauss(0.0, 1.0)) for prompt, response in pairs + pairs[:repeats]]


def guided(rows: Sequence[Row]) -> list[Row]:
    """The rows, each of whose tokens could have been one of one to six."""
    draw = random.Random(0)

    def choice(token: int) -> tuple[int, ...]:
        return tuple(sorted({token, *(draw.randrange(TOKENS) for _ in range(draw.randrange(6)))}))

    chosen: dict[Turn, Allowed] = {}  # equal rows stay equal
    for one in rows:
        chosen.setdefault(one.turn, pack_allowed(list(map(choice, one.response_ids))))
    return [replace(one, turn=one.turn._replace(allowed=chosen[one.turn])) for one in rows]


EARLIER = -1
"""Policy version of rows whose log-probabilities are made up: no engine sampled them with the learner's weights."""


def row(prompt: Sequence[int], response: Sequence[int], advantage: float, logprob: float = -2.5) -> Row:
    """A row of group `g` whose tokens an earlier version sampled with one log-probability."""
    length = len(response)
    return Row(lone_turn(prompt, response), (logprob,) * length, (EARLIER,) * length, advantage, "g")


def histories(episodes: int = 4, steps: int = 6, seed: int = 0) -> list[Row]:
    """Each step's prompt is the whole past of its episode and a line of its own; all episodes begin alike."""
    draw = random.Random(seed)

    def ids(length: int) -> list[int]:
        return [draw.randrange(3, TOKENS) for _ in range(length)]

    found, task = [], ids(5)
    for _ in range(episodes):
        past = list(task)
        for _ in range(steps):
            response = [*ids(draw.randrange(3)), 1]
            found.append(row([*past, *ids(2)], response, draw.gauss(0, 1)))
            past += [*ids(2), *response]
    return found


def naive_logits(model: PreTrainedModel, prompt: Sequence[int], response: Sequence[int]) -> Tensor:
    """[R, V]: logits before each response token, from one plain forward of one sequence."""
    logits: Tensor = model(input_ids=torch.tensor([[*prompt, *response]]), use_cache=False).logits
    return logits[0, len(prompt) - 1 : -1]


def naive_logprobs(model: PreTrainedModel, rows: Sequence[Row], temperature: float = 1.0) -> Tensor:
    """[T]: the same as log-probabilities of the response tokens, row after row."""
    parts = []
    for one in rows:
        everything = torch.log_softmax(naive_logits(model, one.prompt_ids, one.response_ids) / temperature, -1)
        parts.append(everything.gather(1, torch.tensor(one.response_ids)[:, None])[:, 0])
    return torch.cat(parts)


def weights_of(model: PreTrainedModel) -> dict[str, Tensor]:
    """A copy of every weight."""
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}


def same_bits(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    """Whether two sets of weights are equal to the last bit."""
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)
