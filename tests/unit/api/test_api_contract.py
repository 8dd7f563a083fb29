"""The OpenAPI document: what the client, the dashboard and the gate build on."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import structlog
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from services.api.app import build_app
from services.api.http.examples import EXAMPLES
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
GET /v1/dead-letters
GET /v1/dead-letters/{letter_id}
DELETE /v1/dead-letters/{letter_id}
POST /v1/dead-letters/{letter_id}:retry
GET /v1/environments
GET /v1/environments/{environment_id}
GET /v1/evaluations
POST /v1/evaluations
GET /v1/evaluations/{job_id}
GET /v1/jobs
POST /v1/jobs
GET /v1/jobs/{job_id}
PATCH /v1/jobs/{job_id}
DELETE /v1/jobs/{job_id}
GET /v1/jobs/{job_id}/remains
GET /v1/jobs/{job_id}/anchors
GET /v1/jobs/{job_id}/changes
GET /v1/jobs/{job_id}/checkpoints
DELETE /v1/jobs/{job_id}/checkpoints/{name}
GET /v1/jobs/{job_id}/checkpoints/{name}/export
GET /v1/jobs/{job_id}/checkpoints/{name}/files/{file}
GET /v1/jobs/{job_id}/diagnosis
GET /v1/jobs/{job_id}/evaluations
GET /v1/jobs/{job_id}/events
GET /v1/jobs/{job_id}/log
GET /v1/jobs/{job_id}/metrics
GET /v1/jobs/{job_id}/rollouts
GET /v1/jobs/{job_id}/rollouts/{group_id}
GET /v1/jobs/{job_id}/states
GET /v1/jobs/{job_id}/summary
POST /v1/jobs/{job_id}/sessions
POST /v1/jobs/{job_id}/watches
DELETE /v1/jobs/{job_id}/watches/{watch_id}
GET /v1/jobs/{job_id}/watches/{watch_id}
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
GET /v1/sessions/{session_id}
POST /v1/sessions/{session_id}/actions
POST /v1/sessions/{session_id}/chat/completions
POST /v1/sessions/{session_id}/close
GET /v1/sessions/{session_id}/models
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
        assert "503" in errors  # the database, Redis or the disk may be away for any of them
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


def test_every_body_and_answer_has_an_example_that_fits_its_schema(document: dict[str, object]) -> None:
    shown, described = Counter[str](), set[str]()
    for call in [call for calls in document["paths"].values() for call in calls.values()]:  # type: ignore[attr-defined]
        described.add(call["operationId"])
        told = [("answer", status, answer.get("content", {})) for status, answer in call["responses"].items()]
        if "requestBody" in call:
            told.append(("body", "", call["requestBody"]["content"]))
        for kind, status, content in told:
            for media_type, media in content.items():
                if "itemSchema" in media or media["schema"].get("format") == "binary":
                    continue
                where = f"{call['operationId']} {kind} {status} {media_type}"
                assert "example" in media, where
                schema = {**media["schema"], "components": document["components"]}
                problem = best_match(Draft202012Validator(schema).iter_errors(media["example"]))
                assert problem is None, f"{where}: {problem}"
                shown[kind] += 1
    assert EXAMPLES.keys() <= described
    assert shown["body"] == 11
    assert shown["answer"] > len(described)


def test_the_submitted_example_is_a_job_and_its_answers_are_what_it_resolves_to() -> None:
    def covers(resolved: object, asked: object) -> bool:
        if isinstance(asked, dict) and isinstance(resolved, dict):
            return all(covers(resolved[key], value) for key, value in asked.items())
        return resolved == asked

    submission = EXAMPLES["submit_job"]
    resolved = JobSpec.model_validate(submission["body"]).model_dump(mode="json")
    for answer in submission["answers"].values():
        assert covers(resolved, answer["application/json"]["spec"])
    whole = EXAMPLES["show_job"]["answers"]["200"]["application/json"]["spec"]
    assert JobSpec.model_validate(whole).model_dump(mode="json") == whole


def test_every_parameter_and_tag_says_what_it_is(document: dict[str, object]) -> None:
    calls = [call for calls in document["paths"].values() for call in calls.values()]  # type: ignore[attr-defined]
    silent = [
        f"{call['operationId']} {one['name']}"
        for call in calls
        for one in call.get("parameters", [])
        if not one.get("description")
    ]
    assert silent == []
    assert {tag for call in calls for tag in call["tags"]} == {tag["name"] for tag in document["tags"]}  # type: ignore[attr-defined]
    assert all(call["description"] and call["summary"] for call in calls)


def test_every_field_of_a_problem_and_a_job_says_what_it_is(document: dict[str, object]) -> None:
    schemas = document["components"]["schemas"]  # type: ignore[index]
    assert schemas["JobView"]["properties"]["wish"]["description"].startswith("The user's wish")
    assert {"type", "title", "status", "detail", "errors"} <= schemas["ProblemDetails"]["properties"].keys()


def test_a_generator_of_clients_knows_how_to_read_every_answer(document: dict[str, object]) -> None:
    """openapi-python-client leaves out answers whose types it does not know, and decodes text as its schema says."""
    for calls in document["paths"].values():  # type: ignore[attr-defined]
        for call in calls.values():
            for status, answer in call["responses"].items():
                content = answer.get("content", {})
                known = [
                    name
                    for name in content
                    if name.startswith("text/") or name in {"application/json", "application/octet-stream"}
                ]
                assert known or not content or status >= "400", call["operationId"]
                texts = [
                    media["schema"]["type"] for name, media in content.items() if name in {"text/csv", "text/plain"}
                ]
                assert set(texts) <= {"string"}, call["operationId"]
    export = document["paths"]["/v1/jobs/{job_id}/checkpoints/{name}/export"]["get"]  # type: ignore[index]
    assert list(export["responses"]["200"]["content"]) == ["application/x-tar", "application/octet-stream"]


def test_an_event_of_a_stream_has_a_model(document: dict[str, object]) -> None:
    for path in ("events", "metrics"):
        answer = document["paths"][f"/v1/jobs/{{job_id}}/{path}"]["get"]["responses"]["200"]  # type: ignore[index]
        data = answer["content"]["text/event-stream"]["itemSchema"]["properties"]["data"]
        assert data["contentSchema"] == {"$ref": "#/components/schemas/EventBody"}
    body = document["components"]["schemas"]["EventBody"]  # type: ignore[index]
    assert set(body["required"]) == {"kind", "at_unix_s", "data"}


def test_a_change_of_a_job_has_no_defaults_that_a_client_would_send(document: dict[str, object]) -> None:
    fields = document["components"]["schemas"]["JobChanges"]["properties"]  # type: ignore[index]
    assert [name for name, field in fields.items() if "default" in field] == []
