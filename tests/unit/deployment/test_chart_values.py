"""The schema of the chart's values refuses what is wrong and names its place; it needs no helm."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tests.chart import CHART, SERVICES, refusals
from tests.chart_cases import AT_THE_TOP, EACH, OF_SERVICES, TOGETHER

EXAMPLES = sorted((CHART / "examples").glob("*.yaml"))


def test_the_values_as_they_are_are_taken() -> None:
    assert refusals({}) == []


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: str(path.stem))
def test_an_example_is_taken(example: Any) -> None:
    assert refusals(yaml.safe_load(example.read_text())) == []


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in EACH.items() for value in values])
def test_no_service_takes_it(service: str, key: str, value: Any) -> None:
    assert any(one.startswith(f"services.{service}.{key}") for one in refusals({"services": {service: {key: value}}}))


@pytest.mark.parametrize(("service", "key", "value"), OF_SERVICES)
def test_this_service_does_not_take_it(service: str, key: str, value: Any) -> None:
    said = refusals({"services": {service: {key: value}}})
    assert any(one.startswith(f"services.{service}") and key in one for one in said)


@pytest.mark.parametrize(("key", "value"), AT_THE_TOP)
def test_it_is_refused_at_its_place(key: str, value: Any) -> None:
    assert any(key in one for one in refusals({key: value}))


@pytest.mark.parametrize("key", ["replicas", "resources", "gpu", "strategy", "autoscaling", "extraEnv", "tmpSize"])
def test_a_key_of_a_service_that_is_taken_away_is_missed(key: str) -> None:
    assert refusals({"services": {"env": {key: None}}}) == [f"services.env: {key!r} is a required property"]


@pytest.mark.parametrize(("values", "sentence"), TOGETHER, ids=lambda value: value if isinstance(value, str) else "")
def test_what_the_templates_refuse_is_well_formed(values: Any, sentence: str) -> None:
    assert refusals(values) == [], sentence
