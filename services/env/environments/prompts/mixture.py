"""Several data sets as one: which of them a task comes from follows from its seed and their weights."""

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from services.env.environments.prompts.questions import Splits
from services.env.environments.prompts.shelf import Question

COLUMN = "data_set"
"""The column by which a reward function knows the data set of a row."""


@dataclass(frozen=True)
class Mixture:
    """Data sets by name, and how often each is asked. A single one has the empty name; its rows stay as they are."""

    sets: Mapping[str, Splits]
    weights: tuple[float, ...]

    def draw(self, drawn: random.Random, split: str) -> Question:
        """One question of a split."""
        (name,) = drawn.choices(list(self.sets), self.weights) if len(self.sets) > 1 else self.sets
        found = self.sets[name]
        question = drawn.choice(found.test if split == "test" else found.train)
        return replace(question, row={**question.row, COLUMN: name}) if name else question

    @property
    def unsolved(self) -> int:
        """How many questions have no solution, or an empty one."""
        return sum(one.unsolved for one in self.sets.values())

    @property
    def first_unsolved(self) -> str:
        """The first question of these."""
        return next((one.first_unsolved for one in self.sets.values() if one.unsolved), "")

    @property
    def warnings(self) -> tuple[str, ...]:
        """Notes for the person who brings them."""
        return tuple(self._warnings())

    def _warnings(self) -> Iterator[str]:
        for name, one in self.sets.items():
            for warning in one.warnings:
                yield f"{name}: {warning}" if name else warning
