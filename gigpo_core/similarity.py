"""Step groups of similar anchor texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gigpo_core.anchors import Grouping
from gigpo_core.segments import segments_of_sorted
from gigpo_core.text_match import character_masks, may_match, needed_matches, reaches, unmatched_characters

_BINS = 256
_BLOCK = 256
"""Texts whose upper bounds are computed at once: large enough to fill a device, small beside a group."""
_PIVOT_SIZE = 6
"""Texts in a cluster after which distances to its leader are worth their price: each one saves about a
quarter of what they cost, so waiting this long never costs more than twice the best choice."""


def similar_step_groups(group_id: Tensor, texts: Sequence[str], threshold: float) -> Grouping:
    """Group rows of one group whose texts are similar, by greedy first fit.

    Rows are taken in the order given (canonical: by episode and step); each joins the first cluster
    whose leader, the cluster's first row, it is similar to (`text_match`, row first, leader second),
    or else opens one. Source: GiGPO's similarity mode (arXiv:2505.10978, appendix), without difflib's
    autojunk, which from 200 characters on ignores frequent characters.

    Args:
        group_id: int64 [N].
        texts: N texts, compared by code points as they are.
        threshold: in (0, 1).
    """
    members: dict[int, list[int]] = {}
    for row, group in enumerate(group_id.tolist()):
        members.setdefault(group, []).append(row)
    clusters = torch.empty(len(texts), dtype=torch.int64)
    opened = 0
    for rows in members.values():
        labels = cluster_texts([texts[row] for row in rows], threshold, group_id.device)
        clusters[torch.tensor(rows)] = torch.tensor(labels) + opened
        opened += max(labels) + 1
    arranged, order = torch.sort(clusters.to(group_id.device), stable=True)
    return Grouping(order, segments_of_sorted(arranged[1:] != arranged[:-1], group_id.device))


def cluster_texts(texts: Sequence[str], threshold: float, device: torch.device | str = "cpu") -> list[int]:
    """Return the cluster of each text, numbered by first appearance, by greedy first fit.

    Equal texts get equal clusters without comparison. For the others, pairs are discarded by length
    and character histogram (one batched computation on `device`), by the triangle inequality, and by
    the longest common subsequence; the remaining ones are decided exactly. No bound ever discards a
    similar pair.

    Args:
        texts: in the order in which they are to be taken.
        threshold: in (0, 1).
        device: where the histogram bounds are computed.

    Returns:
        A number 0 .. clusters - 1 for each text; none for no texts.
    """
    distinct = list(dict.fromkeys(texts))
    histograms = character_histograms(distinct).to(device)
    clusters: list[_Cluster] = []
    leader: list[int] = []  # the distinct text that leads each cluster
    found: dict[str, int] = {}
    for start in range(0, len(distinct), _BLOCK):
        stop = min(start + _BLOCK, len(distinct))
        known = torch.tensor([*leader, *range(start, stop)], dtype=torch.int64, device=device)
        margins = similarity_margins(histograms[start:stop], histograms[known], threshold).cpu()
        columns = list(range(len(clusters)))  # index in `known`: the leader of each cluster
        for row, text in enumerate(distinct[start:stop]):
            margin = margins[row].index_select(0, torch.tensor(columns, dtype=torch.int64)).tolist()
            cluster = _first_similar(text, margin, clusters, threshold)
            if cluster == len(clusters):
                clusters.append(_Cluster(text, character_masks(text)))
                columns.append(len(known) - (stop - start) + row)
                leader.append(start + row)
            clusters[cluster].size += 1
            found[text] = cluster
    return [found[text] for text in texts]


def character_histograms(texts: Sequence[str]) -> Tensor:
    """Return float32 [U, C]: how often each text holds the characters of each class.

    C is at most 256. Code points are classed by their lowest 8 bits; classes that no text uses are left out. Merging
    characters can only raise the overlap of two histograms, so bounds stay bounds.
    """
    codes = torch.frombuffer(
        bytearray("".join(texts).encode("utf-32-le", "surrogatepass") or bytes(4)), dtype=torch.int32
    )
    length = torch.tensor([len(text) for text in texts], dtype=torch.int64)
    owner = torch.repeat_interleave(torch.arange(len(texts)), length)
    place = owner * _BINS + (codes[: len(owner)] & (_BINS - 1))
    counts = torch.bincount(place, minlength=len(texts) * _BINS).view(len(texts), _BINS)
    return counts[:, counts.any(0)].to(torch.float32)


def similarity_margins(rows: Tensor, leaders: Tensor, threshold: float) -> Tensor:
    """Return float [R, K]: by how many characters 2 M can exceed threshold T, at most.

    Negative only where the histograms show the ratio to be below the threshold: M is at most the
    overlap of the histograms, sum min(h_r, h_k) = (T - sum |h_r - h_k|) / 2. That covers the bound by
    length, which is the case of completely nested histograms.

    Args:
        rows: float [R, C].
        leaders: float [K, C], histograms over the same classes.
        threshold: in (0, 1).
    """
    length = rows.sum(1)[:, None] + leaders.sum(1)[None, :]
    # Whole numbers below 2**24 are exact in float32; half a character of slack covers the product.
    return length - torch.cdist(rows, leaders, p=1.0) - threshold * length + 0.5


@dataclass
class _Cluster:
    text: str
    masks: dict[str, int]
    size: int = 0
    distances: list[int] | None = None
    """Distance of the leader to the leaders of all earlier clusters, once it pays to know them."""


def _first_similar(text: str, margins: list[float], clusters: list[_Cluster], threshold: float) -> int:
    allowed = [cluster for cluster, margin in enumerate(margins) if margin >= 0]
    likely = max(allowed, key=margins.__getitem__, default=0)
    distances = _distances(likely, clusters) if allowed else []
    away = unmatched_characters(text, clusters[likely].masks, len(clusters[likely].text)) if distances else 0
    for cluster in allowed:
        leader = clusters[cluster]
        length = len(text) + len(leader.text)
        need = needed_matches(length, threshold)
        if cluster < len(distances) and distances[cluster] - away > length - 2 * need:
            continue
        if may_match(text, leader.masks, len(leader.text), need) and reaches(text, leader.text, need):
            return cluster
    return len(clusters)


def _distances(likely: int, clusters: list[_Cluster]) -> list[int]:
    pivot = clusters[likely]
    if pivot.distances is None:
        if pivot.size < _PIVOT_SIZE:
            return []
        pivot.distances = [
            unmatched_characters(pivot.text, other.masks, len(other.text)) for other in clusters[:likely]
        ]
    return pivot.distances
