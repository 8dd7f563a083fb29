"""The OpenAPI document: what the client, the dashboard and the gate build on."""

from __future__ import annotations

from pathlib import Path

import pytest
import structlog
from jsonschema import Draft202012Validator

from services.api.app import build_app
from services.api.examples import ANSWERS, SPEC
from services.api.settings import Settings
from services.contracts.job import JobSpec


@pytest.fixture(scope="module")
def document() -> dict[str, object]:
    settings = Settings(redis_url="redis://x", data_dir=Path("/nowhere"), env_address="x:1")
    made: dict[str, object] = build_app(settings, structlog.get_logger()).openapi()
    return made


CALLS = """
GET /healthz
GET /v1/algorithms
GET /v1/audit
GET /v1/environments
GET /v1/environments/{environment_id}
GET /v1/evaluations
POST /v1/evaluations
GET /v1/evaluations/{job_id}
GET /v1/jobs
POST /v1/jobs
GET /v1/jobs/{job_id}
GET /v1/jobs/{job_id}/anchors
GET /v1/jobs/{job_id}/checkpoints
DELETE /v1/jobs/{job_id}/checkpoints/{name}
GET /v1/jobs/{job_id}/checkpoints/{name}/export
GET /v1/jobs/{job_id}/checkpoints/{name}/files/{file}
GET /v1/jobs/{job_id}/evaluations
GET /v1/jobs/{job_id}/events
GET /v1/jobs/{job_id}/metrics
GET /v1/jobs/{job_id}/rollouts
GET /v1/jobs/{job_id}/rollouts/{group_id}
GET /v1/jobs/{job_id}/summary
POST /v1/jobs/{job_id}:cancel
POST /v1/jobs/{job_id}:fork
POST /v1/jobs/{job_id}:pause
POST /v1/jobs/{job_id}:resume
POST /v1/jobs/{job_id}:retry
GET /v1/keys
POST /v1/keys
DELETE /v1/keys/{key_id}
GET /v1/keys/{key_id}
GET /v1/projects
POST /v1/projects
GET /v1/projects/{project_id}
PATCH /v1/projects/{project_id}
GET /v1/system
GET /v1/whoami
"""


def test_the_document_lists_every_call_and_no_other(document: dict[str, dict[str, dict[str, object]]]) -> None:
    found = {f"{method.upper()} {path}" for path, calls in document["paths"].items() for method in calls}
    assert found == set(CALLS.split("\n")) - {""}


def test_operations_have_ids_of_their_own_and_document_their_errors_as_problems(document: dict[str, object]) -> None:
    operations = [(path, call) for path, calls in document["paths"].items() for call in calls.values()]  # type: ignore[attr-defined]
    ids = [call["operationId"] for _, call in operations]
    assert len(set(ids)) == len(ids)
    for path, call in operations:
        errors = {status: answer for status, answer in call["responses"].items() if status >= "400"}
        assert "500" in errors
        assert path == "/healthz" or {"401", "403", "429"} <= errors.keys()
        for status, answer in errors.items():
            assert (path, status) == ("/healthz", "503") or list(answer["content"]) == ["application/problem+json"]


def test_every_reference_in_the_document_leads_somewhere(document: dict[str, object]) -> None:
    def references(node: object) -> list[str]:
        if isinstance(node, dict):
            inner = [one for value in node.values() for one in references(value)]
            return [*inner, node["$ref"]] if isinstance(node.get("$ref"), str) else inner
        return [one for value in node for one in references(value)] if isinstance(node, list) else []

    known = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}  # type: ignore[index]
    assert set(references(document)) <= known


def test_every_example_fits_its_schema(document: dict[str, object]) -> None:
    operations = {call["operationId"]: call for calls in document["paths"].values() for call in calls.values()}  # type: ignore[attr-defined]
    shown = 0
    for name, answers in ANSWERS.items():
        for status in answers:
            media = [one for one in operations[name]["responses"][status]["content"].values() if "example" in one]
            assert len(media) == 1, name
            schema = {**media[0]["schema"], "components": document["components"]}
            Draft202012Validator(schema).validate(media[0]["example"])
            shown += 1
    assert shown == len(ANSWERS)
    assert JobSpec.model_validate(SPEC).name == "corner"


def test_every_field_of_a_problem_and_a_job_says_what_it_is(document: dict[str, object]) -> None:
    schemas = document["components"]["schemas"]  # type: ignore[index]
    assert schemas["JobView"]["properties"]["wish"]["description"].startswith("What the user wants")
    assert {"type", "title", "status", "detail", "errors"} <= schemas["ProblemDetails"]["properties"].keys()
