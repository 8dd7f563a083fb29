"""Errors of the learner."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


class LearnerError(ValueError):
    """Root of every error the learner raises on purpose."""


class PolicyFolderError(LearnerError):
    """A folder is no policy in Hugging Face format: something in it is missing or unreadable."""

    def __init__(self, folder: Path, problems: Sequence[str]) -> None:
        super().__init__(f"{folder}: no policy in Hugging Face format: {'; '.join(problems)}")
        self.folder = folder
        self.problems = tuple(problems)


class VocabularyError(LearnerError):
    """Words a word tokenizer can't be made from."""


class RowsError(LearnerError):
    """Episodes and scores don't fit together, or a row holds what can't be trained on."""


class MismatchError(LearnerError):
    """The engine's log-probabilities are not those of the weights that it says it serves."""


class StateError(LearnerError):
    """A folder does not hold the saved state of a learner with this spec."""
