"""Prometheus metrics of a process: names, buckets and the text that is scraped.

Every name is `gigpo_<service>_<what>_<unit>`; a counter ends in `_total`. docs/monitoring.md lists all of them.
Counters and histograms are module-level objects of each service's `metrics.py`. Gauges are made from the process's
state when it is scraped, so they cost nothing in between.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, REGISTRY
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import generate_latest

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
Families = Callable[[], Iterable[Metric]]
K = TypeVar("K", bound=tuple[str, ...])
"""The values of a sample's labels."""

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
"""Buckets of latencies, from a step of a light environment to a reset that compiles a game."""


class _Once:
    """Families that were made for one scrape."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = tuple(families)

    def collect(self) -> Iterable[Metric]:
        return self._families


def exposition(families: Iterable[Metric] = (), *, ours_only: bool = False) -> str:
    """The process's counters and histograms, then `families`, in Prometheus' text format.

    Args:
        ours_only: leave out the metrics of the process itself (CPU time, memory), whose names every process shares.
    """
    own = [one for one in REGISTRY.collect() if not ours_only or one.name.startswith("gigpo_")]
    return generate_latest(_Once([*own, *families])).decode()


def gauge(name: str, about: str, samples: Mapping[K, float] | float, labels: Sequence[str] = ()) -> Metric:
    """A gauge from a value, or from one value per tuple of label values."""
    return _filled(GaugeMetricFamily(name, about, labels=labels), samples)


def counter(name: str, about: str, samples: Mapping[K, float] | float, labels: Sequence[str] = ()) -> Metric:
    """The same of counts that only grow; `_total` is added to the name."""
    return _filled(CounterMetricFamily(name, about, labels=labels), samples)


def _filled(family: GaugeMetricFamily | CounterMetricFamily, samples: Mapping[K, float] | float) -> Metric:
    if not isinstance(samples, Mapping):
        family.add_metric([], samples)
        return family
    for values, value in samples.items():
        family.add_metric(list(values), value)
    return family


def only(text: str, prefix: str) -> str:
    """The lines of another exporter's text whose metric begins with `prefix`, comments included."""
    kept = (line for line in text.splitlines(keepends=True) if _name(line).startswith(prefix))
    return "".join(kept)


def _name(line: str) -> str:
    if line.startswith("# "):
        parts = line.split(" ", 3)
        return parts[2] if len(parts) > 2 else ""
    return line
