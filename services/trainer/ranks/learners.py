"""Opens learners on the group of ranks of this process."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path

from services.contracts.job import JobSpec, ScratchModel
from services.trainer.errors import RanksLost
from services.trainer.learner.port import TrainsPolicy
from services.trainer.ranks.group import RankGroup
from services.trainer.ranks.learner import LearnerOnRanks, asked
from services.trainer.ranks.messages import BuildScratch
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
        return LearnerOnRanks(self._ranks(), next(self._numbers), spec, folder)

    def build_scratch(self, scratch: ScratchModel, vocabulary: Sequence[str], seed: int, folder: Path) -> None:
        """Write a new small policy; see `scratch.build_scratch`.

        Raises:
            LearnerError, OSError, RanksLost.
        """
        document = scratch.model_dump_json().encode()
        asked(self._ranks(), BuildScratch(document, list(vocabulary), seed, str(folder)))

    def close(self, learner: TrainsPolicy) -> None:
        """Free what the ranks hold for it."""
        if isinstance(learner, LearnerOnRanks) and self._group is not None:
            with suppress(RanksLost):  # whoever needs them next is told
                learner.close()

    def _ranks(self) -> RankGroup:
        if self._group is None:
            self._group = RankGroup(self._settings.ranks, self._settings.child_start_s, meeting_of(self._settings))
        return self._group

    def forget_ranks(self) -> None:
        """The group is lost: the next one who needs it starts another."""
        if self._group is not None:
            self._group.close()
            self._group = None
