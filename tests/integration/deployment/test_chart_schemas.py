"""Every object of the chart against the schemas of Kubernetes and of the operators that it speaks to."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from tests.chart import CHART, HELM, helm, needs_helm, rendered
from tests.crds import HAS_KUBERNETES, VERSIONS, is_custom, refusals, validate
from tests.integration.deployment.test_chart import WAYS

pytestmark = needs_helm


@pytest.fixture(scope="module", params=sorted(WAYS))
def objects(request: pytest.FixtureRequest) -> Any:
    return rendered(WAYS[request.param])


@pytest.mark.skipif(not HAS_KUBERNETES, reason="kubernetes-validate is not installed")
@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_takes_every_object(objects: Any, version: str) -> None:
    for one in objects.values():
        validate(one, version)


def test_operators_take_their_objects(objects: Any) -> None:
    assert [(kind, refusals(one)) for (kind, _), one in objects.items() if is_custom(one) and refusals(one)] == []


def test_every_kind_of_object_was_looked_at() -> None:
    kinds = {
        kind for way in ("everything", "groups") for (kind, _), one in rendered(WAYS[way]).items() if is_custom(one)
    }
    assert kinds == {"LeaderWorkerSet", "PrometheusRule", "ScaledObject", "ServiceMonitor"}


@pytest.mark.parametrize(
    ("kind", "place", "value"),
    [
        ("ScaledObject", ("spec", "minReplicaCount"), "two"),
        ("ScaledObject", ("spec", "minReplicas"), 2),
        ("ScaledObject", ("spec", "triggers"), [{"type": "prometheus"}]),
        ("LeaderWorkerSet", ("spec", "leaderWorkerTemplate", "restartPolicy"), "Never"),
        ("LeaderWorkerSet", ("spec", "leaderWorkerTemplate", "nodes"), 2),
        ("LeaderWorkerSet", ("spec", "startupPolicy"), "Late"),
        ("ServiceMonitor", ("spec", "endpoints"), [{"interval": "often"}]),
        ("PrometheusRule", ("spec", "groups"), [{"rules": []}]),
    ],
)
def test_a_wrong_object_is_refused(kind: str, place: tuple[str, ...], value: Any) -> None:
    one = next(one for (found, _), one in rendered(WAYS["groups"]).items() if found == kind)
    assert refusals(one) == []
    inner = one
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    assert refusals(one)


def test_lint_has_nothing_to_say() -> None:
    assert helm({}).returncode == 0
    command = [str(HELM), "lint", "--strict", str(CHART), "--set", "data.claimName=shared"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout
