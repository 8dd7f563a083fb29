"""The learners of one rank: each request is a call of one of them."""

from __future__ import annotations

from functools import singledispatchmethod
from pathlib import Path

from services.contracts.job import JobSpec, ScratchModel, WarmStart
from services.trainer.learner.learner import Learner
from services.trainer.learner.port import Supervising
from services.trainer.learner.ranks import Ranks
from services.trainer.learner.scratch import build_scratch
from services.trainer.learner.second_stage import rescored
from services.trainer.ranks import messages
from services.trainer.ranks.messages import AnyAnswer, AnyRequest, Done, Stepped


class Learners:
    """Those that are open, by the number that the asker gave them."""

    def __init__(self, ranks: Ranks) -> None:
        self._ranks = ranks
        self._open: dict[int, Learner] = {}
        self._supervising: dict[int, Supervising] = {}

    @singledispatchmethod
    def answer(self, request: AnyRequest) -> AnyAnswer:
        """Do what is asked.

        Raises:
            LearnerError, OSError: see `Learner`.
        """
        raise NotImplementedError(f"want a request, got {request!r}")

    @answer.register
    def _(self, request: messages.BuildScratch) -> AnyAnswer:
        if self._ranks.leads:
            scratch = ScratchModel.model_validate_json(request.scratch)
            build_scratch(scratch, request.vocabulary, request.seed, Path(request.folder))
        return Done()

    @answer.register
    def _(self, request: messages.Rescore) -> AnyAnswer:
        return Done(scored=rescored(request.groups, JobSpec.model_validate_json(request.spec), request.kl))

    @answer.register
    def _(self, request: messages.Open) -> AnyAnswer:
        spec = JobSpec.model_validate_json(request.spec)
        learner = self._open[request.learner] = Learner(spec, Path(request.folder), self._ranks)
        return Done(device=learner.device)

    @answer.register
    def _(self, request: messages.Load) -> AnyAnswer:
        learner = self._open[request.learner]
        learner.load(Path(request.folder))
        return Done(optimizer_steps=learner.optimizer_steps)

    @answer.register
    def _(self, request: messages.Save) -> AnyAnswer:
        return Done(files=self._open[request.learner].save(Path(request.folder)))

    @answer.register
    def _(self, request: messages.SavePolicy) -> AnyAnswer:
        return Done(files=self._open[request.learner].save_policy(Path(request.folder)))

    @answer.register
    def _(self, request: messages.Export) -> AnyAnswer:
        self._open[request.learner].export(Path(request.folder))
        return Done()

    @answer.register
    def _(self, request: messages.Probe) -> AnyAnswer:
        probe = self._open[request.learner].probe()
        return Done(probe=None if probe is None else probe.model_dump_json().encode())

    @answer.register
    def _(self, request: messages.Mismatch) -> AnyAnswer:
        return Done(figures=self._open[request.learner].mismatch(request.rows.unpacked()))

    @answer.register
    def _(self, request: messages.Divergence) -> AnyAnswer:
        return Done(numbers=self._open[request.learner].divergence(request.rows.unpacked()))

    @answer.register
    def _(self, request: messages.TrainBatch) -> AnyAnswer:
        learner = self._open[request.learner]
        figures = learner.train_batch(request.rows.unpacked(), request.batch_index)
        return Done(optimizer_steps=learner.optimizer_steps, figures=figures)

    @answer.register
    def _(self, request: messages.Supervise) -> AnyAnswer:
        learner, warmstart = self._open[request.learner], WarmStart.model_validate_json(request.warmstart)
        self._supervising[request.learner] = learner.supervise(request.turns.unpacked(), warmstart)
        return Done()

    @answer.register
    def _(self, request: messages.Step) -> AnyAnswer:
        try:
            return Stepped(*next(self._supervising[request.learner]))
        except StopIteration as end:
            del self._supervising[request.learner]
            return Done(figures=end.value)

    @answer.register
    def _(self, request: messages.Close) -> AnyAnswer:
        self._supervising.pop(request.learner, None)
        self._open.pop(request.learner, None)
        return Done()
