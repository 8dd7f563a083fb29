"""Opens learners: in this process where the installation has one rank, otherwise on its group of ranks."""

from __future__ import annotations

from contextlib import suppress
from itertools import count
from pathlib import Path

from services.contracts.job import JobSpec
from services.trainer.errors import RanksLost
from services.trainer.learner.port import TrainsPolicy
from services.trainer.ranks.group import RankGroup
from services.trainer.ranks.learner import LearnerOnRanks
from services.trainer.ranks.torchrun import meeting_of
from services.trainer.settings import Settings


class Learners:
    """The learners of this process; a group of ranks is started when it is first needed, and stays."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._group: RankGroup | None = None
        self._numbers = count()

    def open(self, spec: JobSpec, folder: Path) -> TrainsPolicy:
        """Load the policy in `folder`.

        Raises:
            LearnerError: see `Learner`.
            RanksLost.
        """
        if self._settings.ranks == 1:
            from services.trainer.learner.learner import Learner  # loads torch

            return Learner(spec, folder)
        if self._group is None:
            self._group = RankGroup(self._settings.ranks, self._settings.child_start_s, meeting_of(self._settings))
        return LearnerOnRanks(self._group, next(self._numbers), spec, folder)

    def close(self, learner: TrainsPolicy) -> None:
        """Free what the ranks hold for it."""
        if isinstance(learner, LearnerOnRanks) and self._group is not None:
            with suppress(RanksLost):  # whoever needs them next is told
                learner.close()

    def forget_ranks(self) -> None:
        """The group is lost: the next one who needs it starts another."""
        if self._group is not None:
            self._group.close()
            self._group = None
