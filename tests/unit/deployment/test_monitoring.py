"""The dashboard and the alert rules are well formed; tests/e2e/test_metrics.py holds their names against a stack."""

import re
from collections import Counter
from pathlib import Path

import pytest

from tests.monitoring import names_in, panels, queries, rules


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: str(rule["alert"]))
def test_an_alert_says_what_is_wrong_and_what_to_do(rule):
    assert rule["alert"].startswith("Gigpo")
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert all(rule["annotations"][name].endswith(".") for name in ("summary", "action"))


@pytest.mark.parametrize("panel", panels(), ids=lambda panel: str(panel["title"]))
def test_a_panel_draws_lines_that_have_names_and_a_unit(panel):
    assert all(target["expr"] and target["legendFormat"] for target in panel["targets"])
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24


@pytest.mark.parametrize("title", queries())
def test_a_query_reads_metrics_and_its_brackets_close(title):
    query = queries()[title]
    assert names_in(query)
    assert all(query.count(opening) == query.count(closing) for opening, closing in ("()", "{}", "[]"))


def test_no_two_panels_lie_on_each_other():
    places = Counter((panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels())
    assert places.most_common(1)[0][1] == 1


def test_every_alert_has_its_entry_among_the_operations():
    text = (Path(__file__).parents[3] / "docs/operations.md").read_text()
    assert re.findall(r"^### (Gigpo\w+)$", text, re.MULTILINE) == [rule["alert"] for rule in rules()]
