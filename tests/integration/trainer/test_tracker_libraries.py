"""The real libraries with stores on this machine, read back."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from services.trainer.trackers.row import Row

ROOT = Path(__file__).parents[3]

pytestmark = pytest.mark.filterwarnings("ignore")  # theirs


def rows() -> list[Row]:
    return [Row(f"batch {batch}", batch, {"success": batch / 10, "loss": 1.0}, 1_000.0 + batch) for batch in range(4)]


def test_mlflow_keeps_one_run_a_job_over_a_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.tracking import MlflowClient

    from services.trainer.trackers.mlflow import Mlflow

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    uri, parameters = f"sqlite:///{tmp_path / 'mlflow.db'}", {f"p{number}": number for number in range(130)}
    first = Mlflow("j1", "demo", "gigpo", parameters, uri)
    for row in rows()[:2]:
        first.log(row)
    first.close(None)
    second = Mlflow("j1", "demo", "gigpo", parameters, uri)
    for row in rows()[2:]:
        second.log(row)
    second.close("SUCCEEDED")
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("gigpo")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    history = client.get_metric_history(run.info.run_id, "success")
    assert [(point.step, point.value, point.timestamp) for point in history] == [
        (batch, batch / 10, 1_000_000 + 1_000 * batch) for batch in range(4)
    ]
    assert (run.info.status, run.info.run_name, len(run.data.params)) == ("FINISHED", "demo", 130)


def test_mlflow_that_does_not_answer_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.exceptions import MlflowException

    from services.trainer.trackers.mlflow import Mlflow

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(MlflowException, match="Connection refused"):
        Mlflow("j1", "demo", "gigpo", {}, "")


WANDB = """
import sys
from pathlib import Path
from services.trainer.trackers.row import Row
from services.trainer.trackers.wandb import Wandb

runs = [Wandb(job, "demo", "gigpo", {"gamma": 0.9}, Path(sys.argv[1])) for job in ("j1", "j2")]  # side by side
for batch in range(4):
    for run in runs:
        run.log(Row(f"batch {batch}", batch, {"success": batch / 10}))
runs[0].close("SUCCEEDED")
runs[1].close("FAILED")
"""


def test_wandb_writes_its_offline_files(tmp_path: Path) -> None:
    run(WANDB, str(tmp_path), WANDB_MODE="offline")  # its own process writes the last rows, before this one ends
    for job in ("j1", "j2"):
        (file,) = tmp_path.glob(f"wandb/offline-run-*-{job}/run-{job}.wandb")
        written = file.read_bytes()
        assert b"success" in written
        assert b"0.3" in written


TRACKIO = """
import trackio
from trackio.sqlite_storage import SQLiteStorage
from services.trainer.trackers.row import Row
from services.trainer.trackers.trackio import Trackio

for begin, end in ((0, 2), (2, 4)):
    run = Trackio("demo-j1", "gigpo", {"gamma": 0.9})
    for batch in range(begin, end):
        run.log(Row(f"batch {batch}", batch, {"success": batch / 10}))
    run.close("SUCCEEDED")
print([(row["step"], row["success"]) for row in SQLiteStorage.get_logs("gigpo", "demo-j1")])
"""


def test_trackio_keeps_one_run_a_job_over_a_resume(tmp_path: Path) -> None:
    said = run(TRACKIO, TRACKIO_DIR=str(tmp_path))
    assert "[(0, 0.0), (1, 0.1), (2, 0.2), (3, 0.3)]" in said.splitlines()


def run(program: str, *arguments: str, **variables: str) -> str:
    """Output of the program in a process of its own: these libraries read their variables when they are imported."""
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'proto'}", **variables},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
