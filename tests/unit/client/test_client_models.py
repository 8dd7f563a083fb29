"""The API's answers are read by the API's own documents, and a newer API may say more."""

from __future__ import annotations

import warnings
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from gigpo import client
from services.contracts.rest.access import NewProject, Quotas
from services.contracts.rest.evaluations import EvaluationRequest
from services.contracts.rest.jobs import ForkRequest, JobView
from tests.unit.client.both_clients import KINDS, ask, job

EVALUATION = {
    "label": "pinned",
    "version": 3,
    "episodes": 8,
    "success": 0.5,
    "standard_error": 0.1,
    "return_mean": 0.5,
    "length_mean": 7.0,
    "invalid_share": 0.0,
    "split": "test",
}


def answering(body: Any) -> Any:
    return lambda _: httpx.Response(200, json=body)


@pytest.mark.parametrize("kind", KINDS)
def test_fields_that_only_a_newer_api_knows_are_left_out_at_every_depth(kind: str) -> None:
    assert ask(kind, answering(job(mood="good")), "job", "j1").id == "j1"
    usage = {"concurrent_jobs": 1, "total_steps": 2, "storage_bytes": 3, "carbon_g": 4}
    quotas = {"max_total_steps": 9, "max_carbon_g": 5}
    project = {"id": "robots", "created_unix_s": 1.0, "quotas": quotas, "usage": usage}
    read = ask(kind, answering(project), "project", "robots")
    assert (read.quotas.max_total_steps, read.quotas.max_concurrent_jobs, read.usage.storage_bytes) == (9, None, 3)
    (evaluation,) = ask(kind, answering([{**EVALUATION, "median": 1.0}]), "evaluations", "j1")
    assert evaluation.success == 0.5
    page = {"jobs": [job(mood="good")], "next_cursor": None, "more": True}
    assert [one.id for one in ask(kind, answering(page), "jobs")] == ["j1"]


@pytest.mark.parametrize("kind", KINDS)
def test_names_that_only_a_newer_api_knows_are_read_as_text(kind: str) -> None:
    read = ask(kind, answering(job(state="ARCHIVED", wish="archive", kind="distillation")), "job", "j1")
    assert (read.state, read.wish, read.kind, read.ended) == ("ARCHIVED", "archive", "distillation", False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read.model_dump(mode="json")["state"] == "ARCHIVED"
    whoami = {"name": "n", "key_id": None, "project": "p", "scopes": ["read", "audit"], "sees_every_project": False}
    assert ask(kind, answering(whoami), "whoami").scopes == ["read", "audit"]
    with pytest.raises(client.BadAnswer, match="state"):
        ask(kind, answering(job(state=7)), "job", "j1")


@pytest.mark.parametrize("kind", KINDS)
def test_an_entry_that_cannot_be_read_is_a_bad_answer(kind: str) -> None:
    for page in ({"jobs": [{"id": "j1"}], "next_cursor": None}, {"things": []}, {"jobs": None}):
        with pytest.raises(client.BadAnswer, match="GET /v1/jobs: the answer does not come from this API"):
            ask(kind, answering(page), "jobs")


@pytest.mark.parametrize(("state", "ended"), [("RUNNING", False), ("PAUSED", False), ("FAILED", True)])
def test_a_job_and_an_evaluation_know_whether_they_have_ended(state: str, ended: bool) -> None:
    assert client.Job.model_validate(job(state=state)).ended == ended
    assert "ended" not in JobView.model_json_schema(mode="serialization")["properties"]


def test_a_checkpoint_knows_its_size() -> None:
    files = [{"name": "a", "size_bytes": 3}, {"name": "b", "size_bytes": 4, "sha256": "00"}]
    read = client.Checkpoint.model_validate({"name": "final", "final": True, "created_unix_s": 1.0, "files": files})
    assert (read.size_bytes, [file.sha256 for file in read.files]) == (7, [None, "00"])


@pytest.mark.parametrize("request_type", [NewProject, Quotas, EvaluationRequest, ForkRequest])
def test_the_api_refuses_fields_of_a_request_that_it_does_not_know(request_type: Any) -> None:
    given = {"id": "p"} if request_type is NewProject else {"job_id": "j1"} if request_type is EvaluationRequest else {}
    request_type.model_validate(given)
    with pytest.raises(ValidationError, match="mood"):
        request_type.model_validate({**given, "mood": "good"})
