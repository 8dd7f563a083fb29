"""Full-text ranking for environments that search: BM25 over stemmed English, the same order in every process.

It ranks as Anserini does with Lucene's English analyzer (k1 = .9, b = .4, Porter's stems, 33 stop words), except that
document lengths are exact (Lucene keeps them in one byte), and equal scores are ordered by position in the collection.
"""

import logging
import re
from collections.abc import Iterable
from functools import lru_cache

from gigpo.env.progress import allow_silence, report_each

INDEX_S_PER_DOCUMENT = 1e-3
"""Upper bound for an index, seconds a document: texts of 100 words take 7e-5 each on a quiet core."""
REQUIRES = ("Stemmer", "bm25s", "numpy")
"""Packages of environments that rank; imported where they are used, so that listing environments stays cheap."""
WORD = re.compile(r"\w+(?:['’.]\w+)*")
"""Letters and digits, joined inside by an apostrophe or a point: "men's", "3.5"; but "t-shirt" is two words."""
POSSESSIVE = re.compile(r"['’]s$")
ENGLISH_STOP_WORDS = (
    "a an and are as at be but by for if in into is it no not of on or such that the their then there these they this "
    "to was will with"
)
STOP_WORDS = frozenset(ENGLISH_STOP_WORDS.split())


def terms(text: str) -> list[str]:
    """The terms of a text, for indexing and searching."""
    return [term for word in WORD.findall(text.lower()) if (term := stem(word))]


@lru_cache(maxsize=100_000)
def stem(word: str) -> str:
    """A word without possessive and endings; empty for a stop word."""
    import Stemmer

    bare = POSSESSIVE.sub("", word)
    stemmed: str = "" if bare in STOP_WORDS else Stemmer.Stemmer("porter").stemWord(bare)
    return stemmed


class Ranking:
    """An index over a fixed collection; reading it changes nothing, so sessions share it."""

    def __init__(self, documents: Iterable[str]) -> None:
        import bm25s

        logging.getLogger("bm25s").setLevel(logging.WARNING)  # it logs every index at DEBUG, whatever the root says
        self._index = bm25s.BM25(method="lucene", k1=0.9, b=0.4)
        found = [terms(document) for document in report_each(documents)]
        with allow_silence(len(found) * INDEX_S_PER_DOCUMENT):
            self._index.index(found, show_progress=False)

    def best(self, query: str, limit: int) -> list[int]:
        """Positions of the documents that share a term with the query, best first, at most `limit`."""
        import numpy as np

        known = self._index.get_tokens_ids(terms(query))
        if not known:
            return []
        scores = self._index.get_scores_from_ids(known)
        found = np.flatnonzero(scores)  # few of many, as a rule: what follows is quick with them alone
        values = scores[found]
        if len(found) > limit:
            likely = values >= np.partition(values, -limit)[-limit]
            found, values = found[likely], values[likely]
        order = np.argsort(-values, kind="stable")[:limit]
        return [int(position) for position in found[order]]
