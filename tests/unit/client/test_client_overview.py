"""`gigpo status`, `gigpo logs` and `gigpo init`: where a newcomer looks first."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from gigpo.client.completion import complete_environment, complete_job, values_of
from gigpo.client.document import checked, read_document
from services.env.tools.catalogue import local_catalogue
from tests.unit.client.fake_api import FakeApi, Gigpo, job

SYSTEM: dict[str, Any] = {
    "services": [
        {"service": name, "instance": f"{name}-{at}", "pid": at, "detail": {}}
        for at, name in enumerate(("trainer", "rollout", "rollout"))
    ],
    "queues": [],
    "ledger": {},
    "version": "0.1.0",
    "database_revision": "0003",
    "jobs": {},
    "health": {"status": "ok", "checks": {}},
}
ENVIRONMENTS = [view["info"]["id"] for view in local_catalogue()]


@pytest.fixture
def installed(fake_api: FakeApi) -> FakeApi:
    """An API with the environments of this installation, two jobs, and services that live."""
    fake_api.has(job(id="j2", name="now", state="RUNNING"), job(id="j1", name="then", state="SUCCEEDED"))
    fake_api.answers |= {
        "GET /v1/environments": local_catalogue(),
        "GET /v1/system": SYSTEM,
        "GET /healthz": {"status": "ok", "checks": {"redis": "ok", "database": "ok"}},
    }
    return fake_api


def test_the_status_shows_the_stack_its_services_and_the_jobs(installed: FakeApi, gigpo: Gigpo) -> None:
    shown = gigpo("status")
    assert shown.code == 0, shown.err
    lines = [" ".join(row) for row in shown.rows]
    assert lines[:2] == ["stack is ok, API http://api", "services database, redis, rollout (2), trainer"]
    assert any(line.startswith("j2 now RUNNING") for line in lines)
    assert gigpo("status", "--json").document["health"]["status"] == "ok"
    installed.answers["GET /healthz"] = {"status": "degraded", "checks": {"redis": "no answer", "database": "ok"}}
    installed.has()
    lines = gigpo("status").out.splitlines()
    assert (lines[0], lines[-1]) == (
        "stack     redis: no answer, API http://api", "jobs      none yet; `gigpo train` starts one"
    )  # fmt: skip


def test_a_service_s_lines_of_a_job_are_shown(
    installed: FakeApi, gigpo: Gigpo, tmp_path: Path, monkeypatch: Any
) -> None:
    installed.says("j2", ("phase", {"phase": "training"}))
    assert "phase training" in gigpo("logs", "now").out
    refused = gigpo("logs", "now", "trainer")
    assert (refused.code, "lie where the stack runs, not behind http://api" in refused.err) == (2, True)

    monkeypatch.delenv("GIGPO_API_URL")
    assert gigpo("logs", "now", "trainer").err == "gigpo: SERVICE: no stack has run in runs yet\n"
    folder = tmp_path / "runs" / ".platform" / "logs"
    folder.mkdir(parents=True)
    entries = [{"event": "a job begins", "job_id": "j2", "level": "info"}, {"event": "another", "job_id": "j9"}]
    (folder / "trainer.log").write_text("\n".join(json.dumps(one) for one in entries) + "\nTraceback of j2\n")
    wrong = gigpo("logs", "now", "trainr")
    assert wrong.err == "gigpo: SERVICE: want trainer, got 'trainr'; did you mean trainer?\n"
    monkeypatch.setattr("gigpo.client.commands.overview.connected", _connected_to(installed))
    assert gigpo("logs", "now", "trainer").out == "info a job begins job_id=j2\nTraceback of j2\n"
    assert gigpo("logs", "now", "trainer", "-n", "1", "--json").document == {"event": "Traceback of j2"}


def _connected_to(api: FakeApi) -> Any:
    from gigpo.client import session

    return lambda runs, _: session.connected(runs, "http://api")


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_the_file_that_is_written_is_a_job(installed: FakeApi, gigpo: Gigpo, tmp_path: Path, environment: str) -> None:
    written = gigpo("init", "new.yaml", "--environment", environment, "--model", "job:j1/final", "--name", "mine")
    assert written.code == 0, written.err
    text = (tmp_path / "new.yaml").read_text()
    spec = checked(read_document(tmp_path / "new.yaml"))
    assert (spec.name, spec.model.model, spec.environment.environment) == ("mine", "job:j1/final", environment)
    keys = [
        line.split(":")[0].strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#")
    ]
    lines = text.splitlines()
    for key in set(keys) - {"model", "environment", "rewards", "algorithm", "rollout", "training", "evaluation",
                            "checkpoint", "inference", "name"}:  # fmt: skip
        (at,) = [i for i, line in enumerate(lines) if line.strip().startswith(f"{key}:")]
        assert lines[at - 1].strip().startswith("#"), key


def test_a_file_without_a_model_begins_from_scratch_and_none_is_replaced(
    installed: FakeApi, gigpo: Gigpo, tmp_path: Path
) -> None:
    assert gigpo("init").out.startswith("written: job.yaml; `gigpo train --dry-run job.yaml` checks it")
    document = yaml.safe_load((tmp_path / "job.yaml").read_text())
    assert sorted(document["model"]) == ["scratch", "warmstart"]
    (tmp_path / "job.yaml").write_text("mine")
    again = gigpo("init")
    assert (again.code, (tmp_path / "job.yaml").read_text()) == (2, "mine")
    assert again.err.startswith("gigpo: job.yaml is there already; ")
    assert gigpo("init", "--force").code == 0
    none = gigpo("init", "w.yaml", "--environment", "webshop")
    assert (none.code, "webshop names no vocabulary" in none.err) == (2, True)
    wrong = gigpo("init", "w.yaml", "--environment", "sokobann")
    assert wrong.err.endswith("got 'sokobann'; did you mean sokoban?\n")


def test_a_shell_completes_values_environments_and_jobs(
    installed: FakeApi, gigpo: Gigpo, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert values_of("advantage_estimator", ["grpo", "gigpo", "rloo"])("g") == ["grpo", "gigpo"]
    assert values_of("reward_funcs", [])("form") == ["format"]
    assert complete_environment("sok") == values_of("environment", [])("sok") == ["sokoban"]
    monkeypatch.delenv("GIGPO_API_URL")
    assert complete_job("n") == []
    monkeypatch.setenv("GIGPO_API_URL", "http://127.0.0.1:9")
    assert complete_job("n") == []  # what does not answer completes nothing, and says nothing
