"""Lets a server's spans join the caller's trace (OpenTelemetry)."""

from __future__ import annotations

import sys


def trace_metadata() -> tuple[tuple[str, str], ...]:
    """Return the caller's span as gRPC metadata (W3C `traceparent`); empty where nothing in this process traces."""
    if "opentelemetry.trace" not in sys.modules:
        return ()
    from opentelemetry.propagate import inject

    carrier: dict[str, str] = {}
    inject(carrier)
    return tuple(carrier.items())
