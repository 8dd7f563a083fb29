"""Spans of OpenTelemetry, and the ids that log lines and spans share. Without an address no span is made.

A context travels in messages as W3C's `traceparent`. Ids have one name everywhere: job, group, episode, step, attempt,
batch, policy_version.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from structlog.contextvars import bind_contextvars, get_contextvars, reset_contextvars

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.trace import Span as OtelSpan
    from opentelemetry.trace import Tracer

IDS = ("job", "group", "episode", "step", "attempt", "batch", "policy_version")
"""The ids that a span takes over from its surroundings."""
EXPORT_EVERY_MS = 1_000
NO_EXTRA = "{}: spans are made by OpenTelemetry, which is not installed; want the extra `traces`"

Known = str | int


class TraceSettings(Protocol):
    """The settings of every service that makes spans."""

    @property
    def traces_url(self) -> str: ...
    @property
    def traces_share(self) -> float: ...


class Span:
    """One piece of work. This class is the one that is not recorded."""

    traceparent = ""
    """The context for messages; empty: nobody records it."""

    def end(self, **found: Known) -> None:
        """The work is done; `found` is known only now."""


NO_SPAN = Span()


class _Recorded(Span):
    def __init__(self, span: OtelSpan) -> None:
        self._span, context = span, span.get_span_context()
        self.traceparent = f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"

    def end(self, **found: Known) -> None:
        self._span.set_attributes(found)
        self._span.end()


_tracer: Tracer | None = None


def start_tracing(service: str, settings: TraceSettings) -> None:
    """Send this process's spans where its settings say; nowhere: make none. Ends a process that lacks the extra."""
    if not settings.traces_url:
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        raise SystemExit(NO_EXTRA.format(settings.traces_url)) from None
    exporter = OTLPSpanExporter(settings.traces_url)
    record(service, BatchSpanProcessor(exporter, schedule_delay_millis=EXPORT_EVERY_MS), settings.traces_share)


def record(service: str, processor: SpanProcessor, share: float = 1.0) -> None:
    """Give spans of this process to `processor`.

    Args:
        share: of the groups, [0, 1]; all spans of a group are kept or none.
    """
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio

    global _tracer
    resource = Resource.create({"service.name": f"gigpo-{service}"})
    provider = TracerProvider(resource=resource, sampler=ParentBasedTraceIdRatio(share))  # it flushes at exit
    provider.add_span_processor(processor)
    _tracer = provider.get_tracer("gigpo")


def stop_recording() -> None:
    """Make no more spans."""
    global _tracer
    _tracer = None


def begun(name: str, parent: str = "", links: Iterable[str] = (), *, root: bool = False, **ids: Known) -> Span:
    """A span that its caller ends.

    Args:
        parent: traceparent; empty: the span around the call, if there is one.
        links: traceparents of other work that led to this.
        root: begin a trace of its own.
    """
    if _tracer is None:
        return NO_SPAN
    return _Recorded(_start(_tracer, name, parent, links, root, ids))


@contextmanager
def doing(name: str, parent: str = "", links: Iterable[str] = (), **ids: Known) -> Iterator[Span]:
    """A span around a block, whose log lines and spans carry `ids`; see `begun`."""
    tokens = bind_contextvars(**ids)
    try:
        if _tracer is None:
            yield NO_SPAN
            return
        from opentelemetry.trace import use_span

        span = _start(_tracer, name, parent, links, False, ids)
        with use_span(span, end_on_exit=True, record_exception=True):
            yield _Recorded(span)
    finally:
        reset_contextvars(**tokens)


def _start(
    tracer: Tracer, name: str, parent: str, links: Iterable[str], root: bool, ids: Mapping[str, Known]
) -> OtelSpan:
    from opentelemetry.context import Context
    from opentelemetry.trace import Link, NonRecordingSpan, get_current_span, set_span_in_context

    contexts = [known for link in links if (known := _context(link)) is not None]
    context: Context | None = None  # the one around
    if root:
        around = get_current_span().get_span_context()
        contexts += [around] if around.is_valid else []
        context = Context()
    elif (given := _context(parent)) is not None:
        context = set_span_in_context(NonRecordingSpan(given), Context())
    around_us: dict[str, Any] = {key: value for key, value in get_contextvars().items() if key in IDS}
    return tracer.start_span(name, context, attributes={**around_us, **ids}, links=[Link(one) for one in contexts])


def _context(traceparent: str) -> Any:
    """The SpanContext; None: none is named, or it is malformed, because a trace must not end work."""
    from opentelemetry.context import Context
    from opentelemetry.trace import get_current_span
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carried = TraceContextTextMapPropagator().extract({"traceparent": traceparent}, Context())
    context = get_current_span(carried).get_span_context()
    return context if context.is_valid else None
