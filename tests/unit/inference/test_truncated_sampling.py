"""The tokens that may be sampled, and the texts that end a response."""

from __future__ import annotations

import math

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from services.contracts.sampling import Sampling
from services.inference.stop_words import StopWords
from services.inference.truncation import truncated

SHARES = torch.tensor([0.4, 0.05, 0.25, 0.1, 0.2])


def kept(top_k: int, top_p: float = 1.0, min_p: float = 0.0) -> list[int]:
    sampling = Sampling(1.0, 4, (), top_k=top_k, top_p=top_p, min_p=min_p)
    logits = truncated(SHARES.log()[None] + 3.0, sampling)[0]
    ids: list[int] = logits.isfinite().nonzero().flatten().tolist()
    assert torch.equal(logits[ids], SHARES.log()[ids] + 3.0)
    return ids


@pytest.mark.parametrize(
    ("top_k", "top_p", "min_p", "ids"),
    [
        (5, 1.0, 0.0, [0, 1, 2, 3, 4]),
        (9, 1.0, 0.0, [0, 1, 2, 3, 4]),
        (3, 1.0, 0.0, [0, 2, 4]),
        (5, 0.6, 0.0, [0, 2]),
        (3, 0.7, 0.0, [0, 2]),  # 0.65 of the 0.85 that three tokens have
        (5, 0.01, 0.0, [0]),
        (5, 1.0, 0.26, [0, 2, 4]),
        (5, 0.8, 0.51, [0, 2]),
    ],
)
def test_the_likeliest_tokens_stay(top_k: int, top_p: float, min_p: float, ids: list[int]) -> None:
    assert kept(top_k, top_p, min_p) == ids


def test_of_equally_likely_tokens_no_more_than_top_k_stay() -> None:
    logits = truncated(torch.zeros(2, 7), Sampling(1.0, 4, (), top_k=3))
    assert logits.isfinite().sum(1).tolist() == [3, 3]
    assert logits.softmax(1).max().item() == pytest.approx(1 / 3)
    assert logits.min().item() == -math.inf


def test_a_text_may_end_within_a_token_and_begin_within_another() -> None:
    pieces = ["a", "</ac", "tion", ">x", "é", "Ã", "©", "Ġ</action>"]
    tokenizer = Tokenizer(models.WordLevel({piece: at for at, piece in enumerate(pieces)}, unk_token="a"))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(), decoders.ByteLevel()
    words = StopWords(tokenizer, ["</action>", "é"])
    assert [words.complete([0, 1, 2, 3][:length]) for length in range(1, 5)] == [False, False, False, True]
    assert [words.complete([0, 5, 6][:length]) for length in range(1, 4)] == [False, False, True]  # bytes of one letter
    assert words.complete([0] * 500 + [7])
    assert not words.complete([1, 0, 2, 3])
