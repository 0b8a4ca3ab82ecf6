"""Where a server of this machine listens."""

from __future__ import annotations

import contextlib
import socket
from dataclasses import dataclass

from lorefuse.core.errors import UsageError

HOST = "127.0.0.1"


@dataclass(frozen=True)
class Ports:
    """Where the server listens, on the loopback address alone."""

    http: int = 8600
    grpc: int = 8601
    metrics: int = 8602

    @classmethod
    def from_url(cls, url: str) -> Ports:
        """Make ports from the gRPC address `host:port`; HTTP and metrics lie one below and one above.

        Raises:
            UsageError: The address is not on this machine, or not an address.
        """
        host, _, port = url.rpartition(":")
        if host not in (HOST, "localhost") or not port.isdigit() or not 1 < int(port) < 65535:
            raise UsageError(
                "Lorefuse starts Triton on this machine alone.",
                expected=f"LOREFUSE_TRITON_URL={HOST}:<port>",
                got=url,
            )
        return cls(int(port) - 1, int(port), int(port) + 1)


def free_ports() -> Ports:
    """Return three ports that nobody listens on."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(3)]
        for one in sockets:
            one.bind((HOST, 0))
        return Ports(*(one.getsockname()[1] for one in sockets))
