"""The schema of the chart's values refuses what is wrong and names its place; it needs no helm."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml

from tests.chart import CHART, SERVICES, refusals
from tests.chart_cases import AT_THE_TOP, EACH, OF_SERVICES, TOGETHER

VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
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


@pytest.mark.parametrize("kind", ["mapping", "list", "scalar"])
def test_every_key_of_the_values_refuses_a_value_of_another_kind(kind: str) -> None:
    wrong = {at: _of_another_kind(value, kind) for at, value in _leaves(VALUES)}
    said = refusals(_nested(wrong))
    assert len(wrong) > 250
    assert [".".join(at) for at in wrong if not any(one.startswith(f"{'.'.join(at)}: ") for one in said)] == []


def _leaves(values: Any, at: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(values, dict) and values:
        for key, value in values.items():
            yield from _leaves(value, (*at, key))
    else:
        yield at, values


def _of_another_kind(value: Any, kind: str) -> Any:
    if kind == "mapping":
        return [1] if isinstance(value, dict) else {"of": "another kind"}
    if kind == "list":
        return "text" if isinstance(value, list) else [["list"]]
    return "yes" if isinstance(value, bool) else True


def _nested(values: Mapping[tuple[str, ...], Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for at, value in values.items():
        inner = found
        for key in at[:-1]:
            inner = inner.setdefault(key, {})
        inner[at[-1]] = value
    return found
