"""Passages, the index over them, and the questions of each split. Read only, so that sessions share it."""

from collections.abc import Mapping, Sequence

import msgspec

from services.env.environments.ranking import Ranking


class Passage(msgspec.Struct, frozen=True):
    """One thing that a search can find."""

    title: str
    text: str


class Question(msgspec.Struct, frozen=True):
    """A question."""

    text: str
    answers: tuple[str, ...]
    """Any of them is right."""
    trail: tuple[str, ...] = ()
    """Titles of the passages that lead to the answer, in order; empty: not known."""


class Library:
    """A corpus and what is asked about it: split -> questions in their order."""

    def __init__(self, passages: Sequence[Passage], questions: Mapping[str, Sequence[Question]]) -> None:
        self.passages = passages
        self._questions = questions
        self._chosen: dict[tuple[str, tuple[int, ...]], Sequence[Question]] = {}
        self._ranking = Ranking(f"{passage.title} {passage.text}" for passage in passages)

    def asked(self, split: str, hops: tuple[int, ...]) -> Sequence[Question]:
        """Questions of a split whose trail has one of these lengths, and those whose trail is not known."""
        if (split, hops) not in self._chosen:
            fitting = [q for q in self._questions[split] if not q.trail or len(q.trail) in hops]
            self._chosen[split, hops] = fitting
        return self._chosen[split, hops]

    def search(self, query: str, limit: int) -> list[int]:
        """Numbers of the passages found, best first."""
        return self._ranking.best(query, limit)
