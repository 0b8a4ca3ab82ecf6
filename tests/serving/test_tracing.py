"""A caller's trace goes on in Triton: its span's id reaches a collector with the spans of the models."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import TracerProvider

from lorefuse.client import Client
from lorefuse.client.tracing import trace_metadata
from lorefuse.deploy.deploy import deploy
from lorefuse.deploy.supervisor import Supervisor
from tests.helpers.synthetic_bundle import World
from tests.reliability.conftest import eventually

Spans = dict[str, set[str]]
"""Names of spans by the trace they are in."""


@pytest.fixture
def collector() -> Iterator[tuple[str, Spans]]:
    """A collector that takes OTLP over HTTP, and what has reached it."""
    spans: Spans = {}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            for group in content["resourceSpans"]:
                for span in (span for scope in group["scopeSpans"] for span in scope["spans"]):
                    spans.setdefault(span["traceId"], set()).add(span["name"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1/traces", spans
    server.shutdown()
    server.server_close()


def _has_models(spans: Spans, trace_id: str) -> bool:
    return {"InferRequest", "recommend", "direct"} <= spans.get(trace_id, set())


def test_a_callers_trace_goes_on_in_triton(
    collector: tuple[str, Spans],
    new_supervisor: Callable[[], Supervisor],
    bundles: tuple[Path, Path],
    world: World,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url, spans = collector
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", url)
    supervisor = new_supervisor()
    deploy(bundles[0], world.store_path, 1, supervisor=supervisor)
    tracer = TracerProvider().get_tracer("shop")
    with Client(supervisor.url) as client:
        assert not trace_metadata()
        client.recommend("u3", 5)
        for page in ("first", "second"):
            with tracer.start_as_current_span(page) as span:
                trace_id = f"{span.get_span_context().trace_id:032x}"
                assert dict(trace_metadata())["traceparent"].split("-")[1] == trace_id
                client.recommend("u3", 5)
            assert eventually(partial(_has_models, spans, trace_id), 30), spans
