"""Spans and ids: who is whose parent, what is linked, and that nothing is made without an address."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from types import SimpleNamespace

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from structlog.contextvars import get_contextvars

from services.kit.tracing import NO_SPAN, begun, doing, record, start_tracing, stop_recording


@pytest.fixture
def exported() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    record("test", SimpleSpanProcessor(exporter))
    yield exporter
    stop_recording()


def by_name(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    found = {span.name: span for span in exporter.get_finished_spans()}
    assert len(found) == len(exporter.get_finished_spans())
    return found


def test_a_context_in_a_message_is_the_parent_and_ids_are_passed_down(exported: InMemorySpanExporter) -> None:
    with doing("job", job="j1"):
        group = begun("group", root=True, group="t1")
        group.end()
    with doing("attempt", group.traceparent, job="j1", group="t1"), doing("step", step=3):
        generate = begun("generate")
        sample = begun("sample", generate.traceparent)
        sample.end(policy_version=7)
        generate.end()
    with doing("batch", links=[group.traceparent, "", "nonsense"], batch=4):
        pass
    spans = by_name(exported)
    chain = ("group", "attempt", "step", "generate", "sample")
    for parent, child in pairwise(chain):
        assert spans[child].parent is not None
        assert spans[child].parent.span_id == spans[parent].context.span_id
        assert spans[child].context.trace_id == spans["group"].context.trace_id
    assert spans["group"].parent is None
    assert [one.context.span_id for one in spans["group"].links] == [spans["job"].context.span_id]
    assert [one.context.span_id for one in spans["batch"].links] == [spans["group"].context.span_id]
    assert dict(spans["generate"].attributes or {}) == {"job": "j1", "group": "t1", "step": 3}
    assert (spans["sample"].attributes or {})["policy_version"] == 7
    assert spans["group"].resource.attributes["service.name"] == "gigpo-test"


def test_an_error_is_on_the_span_and_goes_on(exported: InMemorySpanExporter) -> None:
    with pytest.raises(ValueError, match="wrong"), doing("attempt", job="j1"):
        raise ValueError("wrong")
    assert not by_name(exported)["attempt"].status.is_ok


def test_of_a_share_whole_groups_are_kept() -> None:
    exporter = InMemorySpanExporter()
    record("test", SimpleSpanProcessor(exporter), share=0.0)
    try:
        group = begun("group", root=True)
        assert int(group.traceparent[-2:], 16) & 1 == 0, "the others are told that it is not sampled"
        with doing("attempt", group.traceparent):
            pass
        group.end()
    finally:
        stop_recording()
    assert exporter.get_finished_spans() == ()


def test_log_lines_carry_ids_inside_the_block_alone() -> None:
    with doing("attempt", job="j1", group="t1"):
        with doing("step", step=0):
            assert get_contextvars() == {"job": "j1", "group": "t1", "step": 0}
        assert get_contextvars() == {"job": "j1", "group": "t1"}
    assert get_contextvars() == {}


def test_without_an_address_nothing_is_made() -> None:
    start_tracing("test", SimpleNamespace(traces_url="", traces_share=1.0))
    assert begun("group", root=True) is NO_SPAN
    with doing("attempt", job="j1") as span:
        assert span.traceparent == ""
