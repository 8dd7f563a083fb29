"""Compares answers: exact match and F1 of words, normalised as in SQuAD and Search-R1."""

import re
import string
from collections import Counter
from collections.abc import Iterable

ARTICLE = re.compile(r"\b(a|an|the)\b")
NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalized(answer: str) -> str:
    """Lower case, without punctuation, without articles, words parted by one space; in this order."""
    return " ".join(ARTICLE.sub(" ", answer.lower().translate(NO_PUNCTUATION)).split())


def exact_match(answer: str, golden: Iterable[str]) -> bool:
    """Whether it is one of the golden answers."""
    return normalized(answer) in {normalized(gold) for gold in golden}


def f1(answer: str, golden: Iterable[str]) -> float:
    """Harmonic mean of precision and recall of words, with the golden answer that fits best; 0 where none is shared."""
    words = Counter(normalized(answer).split())
    best = 0.0
    for gold in golden:
        wanted = Counter(normalized(gold).split())
        shared = (words & wanted).total()
        if shared:
            best = max(best, 2 * shared / (words.total() + wanted.total()))
    return best
