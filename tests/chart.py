"""Renders the chart with helm and checks values against its schema."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

CHART = Path(__file__).parents[1] / "helm" / "gigpo"
SERVICES = ("advantage", "api", "env", "inference", "rollout", "trainer")
RELEASE = "one"
ENOUGH: dict[str, Any] = {
    "valkey": {"enabled": False},
    "postgresql": {"enabled": False},
    "redis": {"url": "redis://valkey:6379/0"},
    "database": {"secretName": "postgres"},
    "apiKeySecret": "key",
    "data": {"claimName": "shared"},
}
"""A managed Redis and a managed database, whose tests differ in nothing from one call to the next."""
OWN: dict[str, Any] = {
    "valkey": {"enabled": True},
    "postgresql": {"enabled": True},
    "redis": {"url": ""},
    "database": {"secretName": ""},
    "apiKeySecret": "",
}
"""Values on top of ENOUGH, with which the chart brings everything but the claim."""
HELM = os.environ.get("HELM") or shutil.which("helm")
needs_helm = pytest.mark.skipif(HELM is None, reason="helm is not installed; put it on PATH or set HELM")

Values = Mapping[str, Any]
Object = dict[str, Any]


def overlaid(values: Values, over: Values) -> dict[str, Any]:
    """`values` with `over` on it, as helm does it: mappings are merged, null removes a key."""
    result = deepcopy(dict(values))
    for key, value in over.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, Mapping) and isinstance(result.get(key), Mapping):
            result[key] = overlaid(result[key], value)
        else:
            result[key] = deepcopy(value)
    return result


def refusals(over: Values) -> list[str]:
    """List the schema's complaints about the default values with ENOUGH and `over`: `place: sentence`."""
    defaults, schema = _read()
    found = schema.iter_errors(overlaid(overlaid(defaults, ENOUGH), over))
    return [f"{'.'.join(map(str, one.absolute_path))}: {one.message}" for one in found]


@cache
def _read() -> tuple[dict[str, Any], Draft7Validator]:
    schema = json.loads((CHART / "values.schema.json").read_text())
    Draft7Validator.check_schema(schema)
    return yaml.safe_load((CHART / "values.yaml").read_text()), Draft7Validator(schema)


def helm(over: Values, *options: str, release: str = RELEASE) -> subprocess.CompletedProcess[str]:
    """`helm template` with ENOUGH and `over`."""
    assert HELM is not None
    given = yaml.safe_dump(overlaid(ENOUGH, over))
    command = [HELM, "template", release, str(CHART), "--namespace", "team", "--values", "-", *options]
    return subprocess.run(command, input=given, capture_output=True, text=True, timeout=120, check=False)


def rendered(over: Values | None = None, *, release: str = RELEASE) -> dict[tuple[str, str], Object]:
    """(kind, name without the release's prefix) -> object."""
    done = helm(over or {}, release=release)
    assert done.returncode == 0, done.stderr
    objects = [one for one in yaml.safe_load_all(done.stdout) if one]
    prefix = f"{release}-gigpo"
    keyed = {(one["kind"], one["metadata"]["name"].removeprefix(prefix).lstrip("-")): one for one in objects}
    assert len(keyed) == len(objects), "two objects of one name"
    return keyed


def pod(objects: Mapping[tuple[str, str], Object], service: str) -> Object:
    """The pod's spec of a service."""
    spec: Object = template(objects, service)["spec"]
    return spec


def template(objects: Mapping[tuple[str, str], Object], service: str, *, worker: bool = False) -> Object:
    """The pod template of a service; with `worker` that of the further nodes of its group."""
    if ("LeaderWorkerSet", service) in objects:
        group = objects["LeaderWorkerSet", service]["spec"]["leaderWorkerTemplate"]
        return group["workerTemplate" if worker else "leaderTemplate"]
    return objects["Deployment", service]["spec"]["template"]


def variables(objects: Mapping[tuple[str, str], Object], service: str) -> dict[str, Any]:
    """Environment variable -> its text, or where it comes from."""
    return {
        one["name"]: one.get("value", one.get("valueFrom")) for one in pod(objects, service)["containers"][0]["env"]
    }
