import difflib
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gigpo_core import AdvantageConfig, StepBatch, compute_advantages
from gigpo_core.similarity import character_histograms, cluster_texts, similarity_margins
from gigpo_core.text_match import (
    character_masks,
    longest_match,
    may_match,
    needed_matches,
    reaches,
    unmatched_characters,
)

TEXTS = st.text(alphabet="ab cé\u4e2d\U0001f600", max_size=24)
THRESHOLDS = st.sampled_from([0.1, 0.5, 2 / 3, 0.8, 0.9, 0.95])
MANY = settings(max_examples=150, deadline=None)


def matcher(a, b):
    return difflib.SequenceMatcher(None, a, b, autojunk=False)


def plain_clusters(texts, threshold):
    leaders, labels = [], []
    for text in texts:
        hit = next((c for c, leader in enumerate(leaders) if matcher(text, leader).ratio() >= threshold), len(leaders))
        leaders += [text] if hit == len(leaders) else []
        labels.append(hit)
    return labels


@MANY
@given(TEXTS, TEXTS, THRESHOLDS)
def test_the_decision_is_that_of_difflib(a, b, threshold):
    need = needed_matches(len(a) + len(b), threshold)
    similar = matcher(a, b).ratio() >= threshold
    assert reaches(a, b, need) == similar
    assert may_match(a, character_masks(b), len(b), need) or not similar


@MANY
@given(TEXTS, TEXTS)
def test_the_longest_match_is_that_of_difflib(a, b):
    assert longest_match(a, b, 0, len(a), 0, len(b)) == tuple(matcher(a, b).find_longest_match(0, len(a), 0, len(b)))


@MANY
@given(TEXTS, TEXTS)
def test_unmatched_characters_are_those_outside_the_longest_common_subsequence(a, b):
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            table[i + 1][j + 1] = table[i][j] + 1 if x == y else max(table[i][j + 1], table[i + 1][j])
    common = table[-1][-1]
    masks = character_masks(b)
    assert unmatched_characters(a, masks, len(b)) == len(a) + len(b) - 2 * common
    assert may_match(a, masks, len(b), common)
    assert not may_match(a, masks, len(b), common + 1)


@pytest.mark.parametrize(("length", "threshold", "need"), [(0, 0.9, 0), (10, 0.8, 4), (10, 0.81, 5), (7, 2 / 7, 1)])
def test_needed_matches_round_up(length, threshold, need):
    assert needed_matches(length, threshold) == need


@MANY
@given(st.lists(TEXTS, min_size=1, max_size=6), THRESHOLDS)
def test_margins_never_discard_a_similar_pair(texts, threshold):
    histograms = character_histograms(texts)
    margins = similarity_margins(histograms, histograms, threshold)
    for i, a in enumerate(texts):
        for j, b in enumerate(texts):
            assert margins[i, j] >= 0 or matcher(a, b).ratio() < threshold


@MANY
@given(st.lists(TEXTS, min_size=1, max_size=12), THRESHOLDS)
def test_clusters_of_short_texts_are_those_of_difflib(texts, threshold):
    assert cluster_texts(texts, threshold) == plain_clusters(texts, threshold)


def noisy_texts(seed, count, templates, length):
    rng = random.Random(seed)
    words = "you are in a room and see the red green door key box on left right of table".split()  # noqa: SIM905
    bases = [[rng.choice(words) for _ in range(length)] for _ in range(templates)]
    texts = []
    for _ in range(count):
        text = list(rng.choice(bases))
        for _ in range(rng.randrange(length // 3)):
            text[rng.randrange(length)] = rng.choice(words)
        texts.append(" ".join(text))
    return texts


@pytest.mark.parametrize("threshold", [0.6, 0.75, 0.9])
def test_clusters_of_more_texts_than_one_block_are_those_of_difflib(threshold):
    texts = noisy_texts(seed=1, count=300, templates=4, length=12)
    assert cluster_texts(texts, threshold) == plain_clusters(texts, threshold)


def test_distances_between_leaders_spare_comparisons_without_changing_clusters():
    texts = noisy_texts(seed=2, count=150, templates=5, length=24)
    assert cluster_texts(texts, 0.7) == plain_clusters(texts, 0.7)


def test_rows_are_taken_in_order_of_time_and_clusters_stay_in_their_group():
    texts = ["abcdefgh", "abcdefgX", "abcdefXX", "abcdefgh"]
    batch = StepBatch(
        group_id=torch.tensor([0, 0, 0, 1]),
        episode_id=torch.tensor([1, 0, 0, 2]),
        step_index=torch.tensor([0, 1, 0, 0]),
        anchor_key=torch.zeros(4, 2, dtype=torch.int64),
        reward=torch.tensor([1.0, 0.0, 2.0, 5.0]),
        anchor_text=texts,
    )
    got = compute_advantages(batch, AdvantageConfig("gigpo", gamma=1.0, anchor_similarity=0.8))
    # In order of time the leader is "abcdefXX"; "abcdefgX" joins it, "abcdefgh" (6 of 8) does not.
    assert got.step_group.tolist() == [0, 1, 1, 2]
    assert got.step_advantage.tolist() == [0.0, -1.0, 1.0, 0.0]


@pytest.mark.parametrize("seed", range(8))
def test_distances_between_leaders_are_exact_bounds(seed):
    # Leaders that differ by whole runs, members in between: many pairs stand right at the threshold.
    rng = random.Random(seed)
    texts = []
    for _ in range(160):
        cut = rng.choice([0, 0, 2, 3, 4, 5, 6, 7, 8, 10, 12])
        tail = "".join(rng.choice("yz") for _ in range(rng.randrange(3)))
        texts.append("abcdefghijklmnopqrst"[: 20 - cut] + "0123456789AB"[:cut] + tail)
    assert cluster_texts(texts, 0.8) == plain_clusters(texts, 0.8)
