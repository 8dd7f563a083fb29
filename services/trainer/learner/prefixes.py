"""Sequences that begin alike as one tree of tokens, in which every different beginning stands once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from gigpo_core import MicroBatch

MASK_TOKENS = 4_096
"""Most tokens of a tree, unless a single sequence is longer: the mask has a place for every pair of tokens."""
SAVING = 1.25
"""Trees are worth their masks where a forward costs so many times less by them; see `forward_cost`."""


@dataclass(frozen=True)
class PrefixTree:
    """N tokens, each behind all that it follows."""

    ids: Tensor
    """int64 [1, N]."""
    positions: Tensor
    """int64 [1, N]: of each token in its sequences."""
    mask: Tensor
    """bool [1, 1, N, N]: whether a token (row) sees another one (column): itself, and what it follows."""
    paths: list[Tensor]
    """int64 [L] of each sequence: where its tokens stand."""


def prefix_tree(sequences: Sequence[Tensor]) -> PrefixTree:
    """The tree of some sequences int64 [L].

    Args:
        sequences: sorted by their tokens, so that each shares most with the one before it.
    """
    paths: list[Tensor] = []
    own: list[tuple[int, int]] = []
    """How many tokens each sequence shares, and where its own ones begin."""
    total = 0
    for number, ids in enumerate(sequences):
        known = _shared(sequences[number - 1], ids) if number else 0
        own.append((known, total))
        begun = paths[-1][:known] if number else torch.zeros(0, dtype=torch.int64)
        paths.append(torch.cat([begun, torch.arange(total, total + len(ids) - known)]))
        total += len(ids) - known
    mask = torch.zeros(total, total, dtype=torch.bool)
    for path, (known, begin) in zip(paths, own, strict=True):
        end = begin + len(path) - known
        mask[begin:end, path[:known]] = True
        mask[begin:end, begin:end] = torch.ones(end - begin, end - begin, dtype=torch.bool).tril()
    tokens = [ids[known:] for ids, (known, _) in zip(sequences, own, strict=True)]
    places = [torch.arange(known, len(ids)) for ids, (known, _) in zip(sequences, own, strict=True)]
    return PrefixTree(torch.cat(tokens)[None], torch.cat(places)[None], mask[None, None], paths)


def balance_of(model: PreTrainedModel) -> int:
    """Looking at so many tokens costs as much as all products of a token: 2 H + 1.5 I of a decoder with a gated MLP; 0:
    the config does not say it."""
    config: Any = model.config.get_text_config()
    hidden, inner = (getattr(config, name, None) for name in ("hidden_size", "intermediate_size"))
    if not isinstance(hidden, int):
        return 0
    return 2 * hidden + 3 * (inner if isinstance(inner, int) else 4 * hidden) // 2


def forward_cost(plan: Sequence[MicroBatch], balance: int) -> float:
    """Cost of a forward, in tokens that look at nothing. In a tree a token looks at all others, masked or not; in a row
    at half of it.

    Args:
        balance: see `balance_of`.
    """
    cost = 0.0
    for micro in plan:
        seen = micro.forward_tokens if micro.tree else micro.forward_tokens / len(micro.sequence_row) / 2
        cost += micro.forward_tokens * (1 + seen / balance)
    return cost


def may_take_trees(model: PreTrainedModel) -> bool:
    """Whether attention over a mask of our own computes what the model means: no windows, no kernel without masks."""
    config: Any = model.config.get_text_config()
    windows = getattr(config, "sliding_window", None) is not None and getattr(config, "use_sliding_window", True)
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    return config._attn_implementation == "sdpa" and not windows and kinds == {"full_attention"}


def _shared(one: Tensor, other: Tensor) -> int:
    length = min(len(one), len(other))
    differ = (one[:length] != other[:length]).nonzero()
    return int(differ[0]) if len(differ) else length
