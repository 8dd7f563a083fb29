"""Holds objects of Kubernetes against schemas: its own of three versions, and those of custom resources."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from importlib import import_module, util
from pathlib import Path
from typing import Any

from jsonschema import Draft7Validator

VERSIONS = ("1.29", "1.32", "1.37")
HAS_KUBERNETES = util.find_spec("kubernetes_validate") is not None
_CRDS = Path(__file__).parent / "data" / "crds"
"""Each file has a CustomResourceDefinition's schemas, without words and pod specs, and where they come from."""


@cache
def custom(group: str, version: str, kind: str) -> Draft7Validator | None:
    """None: it is no custom resource that we have the schema of."""
    for path in _CRDS.glob("*.json"):
        crd = json.loads(path.read_text())
        if (crd["group"], crd["kind"]) == (group, kind):
            return Draft7Validator(_closed(crd["versions"][version]))
    return None


def refusals(one: dict[str, Any]) -> list[str]:
    """List the schema's complaints about an object, unknown fields included."""
    group, _, version = one["apiVersion"].rpartition("/")
    found = custom(group, version, one["kind"])
    assert found is not None, f"no schema of {one['apiVersion']} {one['kind']}"
    return [f"{'.'.join(map(str, error.absolute_path))}: {error.message}" for error in found.iter_errors(one)]


def is_custom(one: dict[str, Any]) -> bool:
    """Whether the cluster knows it only when an operator is installed."""
    return one["apiVersion"].startswith(("keda.sh/", "leaderworkerset.x-k8s.io/", "monitoring.coreos.com/"))


def pod_templates(one: Any) -> Iterator[dict[str, Any]]:
    """Pod templates at any depth."""
    if isinstance(one, dict):
        if "containers" in one.get("spec", {}):
            yield one
        else:
            for value in one.values():
                yield from pod_templates(value)


def validate(one: dict[str, Any], version: str) -> None:
    """Raises kubernetes_validate.ValidationError."""
    kubernetes: Any = import_module("kubernetes_validate")
    if not is_custom(one):
        kubernetes.validate(one, version, strict=True)
        return
    for template in pod_templates(one):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", **template["metadata"]}}
        kubernetes.validate(pod | {"spec": template["spec"]}, version, strict=True)


def _closed(schema: Any) -> Any:
    """The same with unknown fields refused, as `kubectl --validate=strict` refuses them."""
    if isinstance(schema, list):
        return [_closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {key: _closed(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and not schema.get("x-kubernetes-preserve-unknown-fields"):
        schema.setdefault("additionalProperties", False)
        if set(schema["properties"]) == {"apiVersion", "kind", "metadata", "spec", "status"}:
            schema["properties"]["metadata"] = {"type": "object"}
    if schema.get("x-kubernetes-int-or-string"):
        schema.pop("pattern", None)
    return schema
