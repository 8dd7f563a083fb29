"""BM25: worked by hand, in one order, and nothing found where nothing matches."""

import math

import pytest

from services.env.environments.ranking import Ranking, terms

DOCUMENTS = ["red shoes", "red red hat", "a blue hat for the sea and the sun"]


def bm25(documents: list[list[str]], query: list[str]) -> list[float]:
    """The formula, term by term: Lucene's idf, k1 = .9, b = .4."""
    mean = sum(map(len, documents)) / len(documents)
    scores = []
    for words in documents:
        score = 0.0
        for term in query:
            holding = sum(term in other for other in documents)
            idf = math.log(1 + (len(documents) - holding + 0.5) / (holding + 0.5))
            often = words.count(term)
            score += idf * often / (often + 0.9 * (0.6 + 0.4 * len(words) / mean))
        scores.append(score)
    return scores


def test_words_are_stemmed_and_function_words_are_dropped():
    found = terms("The Running shoes, of a MEN's T-Shirt: 3.5 ounces!")
    assert found == ["run", "shoe", "men", "t", "shirt", "3.5", "ounc"]


@pytest.mark.parametrize("query", ["red hat", "hat", "red red hat", "sun shoe", "blue hats at the sea"])
def test_the_order_is_that_of_the_formula(query):
    scores = bm25([terms(document) for document in DOCUMENTS], terms(query))
    by_formula = sorted((n for n in range(3) if scores[n] > 0), key=lambda n: (-scores[n], n))
    assert Ranking(DOCUMENTS).best(query, 3) == by_formula


def test_only_what_shares_a_term_is_found():
    ranking = Ranking(DOCUMENTS)
    assert ranking.best("shoe", 3) == [0]
    for query in ("", "the of", "unheard", "!"):
        assert ranking.best(query, 3) == []


@pytest.mark.parametrize("limit", [1, 5, 50, 99, 100, 101])
def test_equals_come_in_order_of_the_collection_however_many_are_asked_for(limit):
    ranking = Ranking(["hat"] * 60 + ["hat hat"] + ["hat"] * 39)
    assert ranking.best("hat", limit) == [60, *range(60), *range(61, 100)][:limit]


def test_a_word_that_few_documents_hold_is_found_among_many():
    ranking = Ranking([f"common {'rare' if number in (70, 90) else ''}" for number in range(100)])
    assert ranking.best("rare", 50) == [70, 90]
