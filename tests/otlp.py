"""A collector of spans on loopback, which speaks OTLP over HTTP."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span


@dataclass
class Collector:
    """Spans that have arrived."""

    url: str
    spans: list[tuple[str, Span]] = field(default_factory=list)
    """Name of the service, and its span."""

    def named(self, name: str) -> list[Span]:
        return [span for _, span in self.spans if span.name == name]

    def services(self) -> dict[str, set[str]]:
        """Service -> names of its spans."""
        found: dict[str, set[str]] = {}
        for service, span in self.spans:
            found.setdefault(service, set()).add(span.name)
        return found


def ids(span: Span) -> dict[str, str | int]:
    """Its attributes."""
    return {
        one.key: one.value.int_value if one.value.HasField("int_value") else one.value.string_value
        for one in span.attributes
    }


@contextmanager
def collector() -> Iterator[Collector]:
    """Listen while the block runs."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"])))
            for one in request.resource_spans:
                (service,) = (a.value.string_value for a in one.resource.attributes if a.key == "service.name")
                found.spans.extend((service, span) for scope in one.scope_spans for span in scope.spans)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found = Collector(f"http://127.0.0.1:{server.server_address[1]}/v1/traces")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
