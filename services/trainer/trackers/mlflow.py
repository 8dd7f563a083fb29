"""MLflow: one run per job, found again by its tag. MLflow's own environment variables set address and credentials."""

from __future__ import annotations

from collections.abc import Mapping

from mlflow.entities import Metric, Param
from mlflow.environment_variables import MLFLOW_TRACKING_URI
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from services.contracts.states import JobState
from services.trainer.trackers.row import Row

JOB_TAG = "gigpo.job"
_ENDED: dict[str, str] = {JobState.SUCCEEDED: "FINISHED", JobState.FAILED: "FAILED", JobState.CANCELLED: "KILLED"}
_MOST_PARAMETERS, _MOST_CHARACTERS = 100, 6_000
"""MLflow's limits of one request and of one value."""


class Mlflow:
    """The job's run.

    Args:
        default_uri: where runs go when MLFLOW_TRACKING_URI says nothing.
    """

    def __init__(self, job: str, name: str, project: str, parameters: Mapping[str, object], default_uri: str) -> None:
        self._client = MlflowClient(tracking_uri=MLFLOW_TRACKING_URI.get() or default_uri)
        experiment = self._experiment(project)
        found = self._client.search_runs([experiment], f"tags.`{JOB_TAG}` = '{job}'", max_results=1)
        if found:
            self._run = found[0].info.run_id
            return
        self._run = self._client.create_run(experiment, run_name=name, tags={JOB_TAG: job}).info.run_id
        every = [Param(key, str(value)[:_MOST_CHARACTERS]) for key, value in parameters.items()]
        for begin in range(0, len(every), _MOST_PARAMETERS):
            self._client.log_batch(self._run, params=every[begin : begin + _MOST_PARAMETERS])

    def _experiment(self, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        if found is None:
            try:
                return str(self._client.create_experiment(name))
            except MlflowException:  # another job made it meanwhile
                found = self._client.get_experiment_by_name(name)
                if found is None:
                    raise
        return str(found.experiment_id)

    def log(self, row: Row) -> None:
        at_ms = int(row.at_unix_s * 1_000)
        metrics = [Metric(name, value, at_ms, row.step) for name, value in row.figures.items()]
        self._client.log_batch(self._run, metrics=metrics)

    def close(self, state: str | None) -> None:
        if state is not None:
            self._client.set_terminated(self._run, _ENDED.get(state, "FAILED"))
