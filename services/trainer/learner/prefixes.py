"""Sequences that begin alike as one tree of tokens, in which every different beginning stands once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

MASK_TOKENS = 4_096
"""Most tokens of a tree, unless a single sequence is longer: the mask has a place for every pair of tokens, and
attention looks at them all."""
SAVING = 1.25
"""A tree is worth its mask from so many times fewer tokens on."""


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
    """Of each sequence: how many tokens it shares, and where its own ones begin."""
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
