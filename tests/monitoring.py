"""The queries of dashboards and alert rules, and what a process exports."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml
from prometheus_client.parser import text_string_to_metric_families

MONITORING = Path(__file__).parents[1] / "helm/gigpo/monitoring"
NAME = re.compile(r"(?<![\w:])(?:gigpo_|vllm:|process_)[a-z0-9_]+")
SAMPLES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}


def panels() -> list[dict[str, Any]]:
    """The dashboard's panels that draw something."""
    dashboard = json.loads((MONITORING / "dashboard.json").read_text())
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def rules() -> list[dict[str, Any]]:
    """The alert rules."""
    groups = yaml.safe_load((MONITORING / "alerts.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def queries() -> dict[str, str]:
    """Title of a panel or name of an alert -> its queries, a line each."""
    drawn = {panel["title"]: "\n".join(one["expr"] for one in panel["targets"]) for panel in panels()}
    return drawn | {rule["alert"]: rule["expr"] for rule in rules()}


def names_in(query: str) -> set[str]:
    """The metrics that a query reads."""
    return set(NAME.findall(query))


def exported_names(text: str) -> set[str]:
    """The metrics in the text of a scrape, also those that have no sample yet."""
    families = text_string_to_metric_families(text)
    return {f"{family.name}{ending}" for family in families for ending in SAMPLES.get(family.type, ("",))}


def samples(text: str, name: str) -> dict[tuple[str, ...], float]:
    """Label values, in order of the labels' names -> value."""
    found = (one for family in text_string_to_metric_families(text) for one in family.samples if one.name == name)
    return {tuple(value for _, value in sorted(one.labels.items())): one.value for one in found}
