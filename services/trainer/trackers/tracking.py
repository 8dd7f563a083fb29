"""All trackers of one job."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

from services.contracts.job import JobSpec, flags
from services.contracts.jobfolder import JobFolder
from services.contracts.json_records import RECORD
from services.contracts.summary import EvaluationResult
from services.trainer.events import Events
from services.trainer.trackers.feeder import Feeder, SentRows
from services.trainer.trackers.row import Tracker, batch_row, evaluation_row

CLOSE_S = 20.0
"""Longest wait for the last rows of a job that ends or is paused."""


class Tracking:
    """Takes the rows and hands them to each tracker's thread; it never waits before the job ends or is paused."""

    def __init__(self, openers: dict[str, Callable[[], Tracker]], folder: JobFolder, events: Events) -> None:
        self._folder, self._events = folder, events
        self._feeders = [
            Feeder(name, opener, SentRows(None if name == "tensorboard" else folder.tracking / f"{name}.sent"))
            for name, opener in openers.items()
        ]
        self._told: set[str] = set()
        self._hindered: set[str] = set()

    def catch_up(self, evaluations: list[EvaluationResult]) -> None:
        """These, and every line of metrics.jsonl; a tracker takes what it lacks of them."""
        rows = [evaluation_row(one) for one in evaluations]
        if (metrics := self._folder.metrics).exists():
            lines = metrics.read_text(encoding="utf-8").splitlines()
            rows += [batch_row(RECORD.fields(json.loads(line))) for line in lines]
        for row in sorted(rows, key=lambda row: row.step):
            for feeder in self._feeders:
                feeder.add(row)

    async def batch(self, record: dict[str, float]) -> None:
        """A batch was trained."""
        for feeder in self._feeders:
            feeder.add(batch_row(record))
        await self._warn()

    async def evaluation(self, result: EvaluationResult) -> None:
        """A policy version was evaluated."""
        for feeder in self._feeders:
            feeder.add(evaluation_row(result))
        await self._warn()

    def stop(self) -> None:
        """This process is done with the job; what waits is still fed, while the process lives."""
        for feeder in self._feeders:
            feeder.close(None)

    async def close(self, state: str | None) -> None:
        """The job ended in this state, or None: is paused. Waits for the last rows, `CLOSE_S` at most."""
        for feeder in self._feeders:
            feeder.close(state)
        waits = [asyncio.to_thread(feeder.join, CLOSE_S) for feeder in self._feeders if feeder.failure is None]
        await asyncio.gather(*waits)
        await self._warn()

    async def _warn(self) -> None:
        for feeder in self._feeders:
            if feeder.failure is not None and feeder.name not in self._told:
                self._told.add(feeder.name)
                await self._events.warn(f"tracker {feeder.name} is off until the job is resumed: {feeder.failure}")
            elif feeder.hindrance is not None and feeder.name not in self._hindered:
                self._hindered.add(feeder.name)
                await self._events.warn(
                    f"tracker {feeder.name} waits for room on the disk and gets all rows then: {feeder.hindrance}"
                )


def start_tracking(spec: JobSpec, folder: JobFolder, events: Events, evaluations: list[EvaluationResult]) -> Tracking:
    """The job's trackers at work on what its folder holds already."""
    tracking = Tracking(openers(spec, folder), folder, events)
    tracking.catch_up(evaluations)
    return tracking


def openers(spec: JobSpec, folder: JobFolder) -> dict[str, Callable[[], Tracker]]:
    """How each of the job's trackers is opened; libraries are imported then."""
    job, data_dir = folder.root.name, folder.root.parents[1]
    name, project, parameters = spec.name or job, spec.tracking.tracking_project, spec_parameters(spec)

    def tensorboard() -> Tracker:
        from services.trainer.trackers.tensorboard import TensorBoard

        return TensorBoard(folder.tensorboard)

    def mlflow() -> Tracker:
        from services.trainer.trackers.mlflow import Mlflow

        return Mlflow(job, name, project, parameters, f"sqlite:///{data_dir / 'mlflow.db'}")

    def wandb() -> Tracker:
        from services.trainer.trackers.wandb import Wandb

        return Wandb(job, name, project, parameters, folder.tracking)

    def trackio() -> Tracker:
        from services.trainer.trackers.trackio import Trackio

        return Trackio(job if name == job else f"{name}-{job}", project, parameters)

    by_name: dict[str, Callable[[], Tracker]] = {"mlflow": mlflow, "wandb": wandb, "trackio": trackio}
    return {"tensorboard": tensorboard, **{chosen: by_name[chosen] for chosen in spec.tracking.trackers}}


def spec_parameters(spec: JobSpec) -> dict[str, object]:
    """Flag name -> value of every leaf that is set, as JSON values."""
    document, found = spec.model_dump(mode="json"), dict[str, object]()
    for name, path in flags().items():
        value: object = document
        for part in path:
            value = value.get(part) if isinstance(value, dict) else None
        if value is not None:
            found[name] = value
    return found
