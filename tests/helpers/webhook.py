"""A real HTTP server on 127.0.0.1 that keeps what is posted to it."""

from __future__ import annotations

import json
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Webhook:
    """Use it as a context manager; `received` holds the JSON of every POST.

    Args:
        status: What it answers.
    """

    def __init__(self, status: int = 200) -> None:
        self.status = status
        self.received: list[Any] = []

    def __enter__(self) -> Webhook:
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, self))
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, webhook: Webhook, *args: Any) -> None:
        self.webhook = webhook
        super().__init__(*args)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.webhook.received.append(json.loads(body))
        self.send_response(self.webhook.status)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""
