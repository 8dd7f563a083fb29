"""A learner on a group of ranks, as the trainer's process sees it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gigpo_core import Turn
from services.contracts.job import JobSpec, WarmStart
from services.contracts.messages import ScoredGroup
from services.contracts.policy import PolicyProbe
from services.trainer.errors import LearnerBroken
from services.trainer.learner import errors
from services.trainer.learner.errors import LearnerError
from services.trainer.learner.port import Divergences, Scored, Supervising
from services.trainer.learner.rows import Row
from services.trainer.ranks import messages
from services.trainer.ranks.group import RankGroup
from services.trainer.ranks.messages import AnyRequest, Broken, Done, NotWritten, Refused, Rows, Stepped, Turns

KINDS = {kind.__name__: kind for kind in (errors.RowsError, errors.MismatchError, errors.StateError)}


class LearnerOnRanks:
    """A `Learner` on a group; every method may also raise RanksLost, and none works after it."""

    def __init__(self, group: RankGroup, number: int, spec: JobSpec, folder: Path) -> None:
        self._group, self._number = group, number
        self.optimizer_steps = 0
        self.device = self._done(messages.Open(number, spec.model_dump_json().encode(), str(folder))).device

    def supervise(self, turns: Sequence[Turn], warmstart: WarmStart) -> Supervising:
        self._done(messages.Supervise(self._number, Turns.of(turns), warmstart.model_dump_json().encode()))
        while isinstance(answer := self._ask(messages.Step(self._number)), Stepped):
            yield answer.step, answer.nll
        return answer.figures

    def mismatch(self, rows: Sequence[Row]) -> dict[str, float]:
        return self._done(messages.Mismatch(self._number, Rows.of(rows))).figures

    def divergence(self, rows: Sequence[Row]) -> list[float]:
        return self._done(messages.Divergence(self._number, Rows.of(rows))).numbers

    def rescored(self, groups: Sequence[Scored], spec: JobSpec, kl: Divergences | None) -> list[ScoredGroup]:
        columns = None if kl is None else [list(column) for column in kl]
        return self._done(messages.Rescore(list(groups), spec.model_dump_json().encode(), columns)).scored

    def train_batch(self, rows: Sequence[Row], batch_index: int) -> dict[str, float]:
        done = self._done(messages.TrainBatch(self._number, Rows.of(rows), batch_index))
        self.optimizer_steps = done.optimizer_steps
        return done.figures

    def save_policy(self, folder: Path) -> dict[str, str]:
        return self._done(messages.SavePolicy(self._number, str(folder))).files

    def probe(self) -> PolicyProbe | None:
        probe = self._done(messages.Probe(self._number)).probe
        return None if probe is None else PolicyProbe.model_validate_json(probe)

    def save(self, folder: Path) -> dict[str, str]:
        return self._done(messages.Save(self._number, str(folder))).files

    def load(self, folder: Path) -> None:
        self.optimizer_steps = self._done(messages.Load(self._number, str(folder))).optimizer_steps

    def export(self, folder: Path) -> None:
        self._done(messages.Export(self._number, str(folder)))

    def close(self) -> None:
        """Free what the ranks hold for it."""
        self._done(messages.Close(self._number))

    def _done(self, request: AnyRequest) -> Done:
        answer = self._ask(request)
        assert isinstance(answer, Done)
        return answer

    def _ask(self, request: AnyRequest) -> Done | Stepped:
        return asked(self._group, request)


def asked(group: RankGroup, request: AnyRequest) -> Done | Stepped:
    """The group's answer.

    Raises:
        LearnerError, OSError: as raised there.
        LearnerBroken: any other error there.
        RanksLost.
    """
    answer = group.ask(request)
    if isinstance(answer, Refused):
        raise KINDS.get(answer.kind, LearnerError)(answer.message)
    if isinstance(answer, NotWritten):
        known = answer.errno is not None
        raise OSError(answer.errno, answer.message, answer.filename) if known else OSError(answer.message)
    if isinstance(answer, Broken):
        raise LearnerBroken(answer.message)
    return answer
