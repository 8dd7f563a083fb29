"""The OpenAPI document: operation ids, examples, and every error that a call can be answered with."""

from __future__ import annotations

import re
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from starlette.routing import compile_path

from services.api.http.examples import EXAMPLES
from services.api.rest.problems import ProblemDetails, responses
from services.contracts.rest.events import EventBody

ANYWHERE = (401, 403, 422, 429, 500, 503)
"""Answers that any route may give instead of its own: of the guard, of the check of a query's names, of a defect, and
while a database, Redis or the disk is away."""
WITH_BODY = (400, 413, 415)
"""Answers about a body before any route reads it."""
TAGS = {
    "jobs": "Submit, list and show; pause, resume, cancel, retry and fork.",
    "feed": "The feed of a running job: events, metrics, its own evaluations.",
    "rollouts": "Rollouts of the agent, and the reason for each step's advantage.",
    "insight": "Diagnosis of a job, changes of its policy, and episodes that you watch.",
    "sessions": "Episodes that agents of your own play, by OpenAI's chat completions.",
    "checkpoints": "Checkpoints of a job's policy.",
    "evaluations": "Pinned policies measured on held-out tasks, as jobs of their own.",
    "catalogue": "Environments and algorithms for jobs, and the health of the installation.",
    "dead letters": "Messages that were set aside: look, retry, drop.",
    "administration": "Keys, projects and the audit log.",
}
OPEN_PATHS = frozenset({"/healthz"})


def operation_id(route: APIRoute) -> str:
    """The name of the function behind it, e.g. `submit_job`."""
    return route.name


def document(app: FastAPI) -> dict[str, Any]:
    """The application's OpenAPI 3.1 document, made once."""
    if app.openapi_schema is None:
        made = get_openapi(
            title=app.title,
            version=app.version,
            summary=app.summary,
            routes=app.routes,
            tags=[{"name": name, "description": description} for name, description in TAGS.items()],
            openapi_version="3.1.0",
        )
        schemas = made["components"]["schemas"]
        schemas |= ProblemDetails.model_json_schema(ref_template="#/components/schemas/{model}").pop("$defs")
        schemas["ProblemDetails"] = ProblemDetails.model_json_schema(ref_template="#/components/schemas/{model}")
        del schemas["ProblemDetails"]["$defs"]
        schemas["EventBody"] = EventBody.model_json_schema(ref_template="#/components/schemas/{model}")
        del schemas["EventBody"]["$defs"]  # `JobEvent` brings them
        for schema in schemas.values():
            _want_nothing_deprecated(schema)
        for path, operations in made["paths"].items():
            for operation in operations.values():
                _document_errors(operation, guarded=path not in OPEN_PATHS)
                _show_examples(operation)
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        made["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        made["security"] = [{"key": []}, {}]
        app.openapi_schema = made
    return app.openapi_schema


def allowed_methods(app: FastAPI, path: str) -> list[str]:
    """The methods that the path may be called with; of several routes that match it, those of the most literal."""
    matching = [template for template in document(app)["paths"] if compile_path(template)[0].match(path)]
    template = max(matching, key=lambda one: len(re.sub(r"{[^}]*}", "", one)), default=None)
    return [method.upper() for method in document(app)["paths"].get(template, {})]


def _want_nothing_deprecated(schema: dict[str, Any]) -> None:
    """A client that is made from the document must not miss what will go."""
    fields = schema.get("properties", {})
    if "required" in schema:
        schema["required"] = [name for name in schema["required"] if not fields[name].get("deprecated")]


def _document_errors(operation: dict[str, Any], *, guarded: bool) -> None:
    found = operation["responses"]
    if "422" in found:  # FastAPI's own has another shape
        found["422"] = responses(422)[422]
    statuses = (*(ANYWHERE if guarded else (429, 500)), *(WITH_BODY if "requestBody" in operation else ()))
    for status, error in responses(*statuses).items():
        found.setdefault(str(status), error)


def _show_examples(operation: dict[str, Any]) -> None:
    shown = EXAMPLES.get(operation["operationId"], {})
    if "body" in shown:
        operation["requestBody"]["content"]["application/json"]["example"] = shown["body"]
    answers = shown.get("answers", {})
    if "201" in answers and "200" in operation["responses"]:  # a repeated Idempotency-Key has the first answer again
        answers = {"200": answers["201"], **answers}
    for status, examples in answers.items():
        for media_type, example in examples.items():
            operation["responses"][status]["content"][media_type]["example"] = example
