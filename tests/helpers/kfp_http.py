"""The transport of the stand-in API server: HTTP in, `Sent` to the server, JSON out."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

import kfp_server_api as api

Answer = tuple[int, Any]


@dataclass
class Sent:
    """One request as it arrived: method, path, query, body (parsed JSON, or the uploaded text) and headers."""

    method: str
    path: str
    query: dict[str, str]
    body: Any
    headers: dict[str, str]


class Handler(BaseHTTPRequestHandler):
    """Turns requests into `Sent`, and answers into JSON.

    Args:
        answer: Gives status and content for a request.
    """

    protocol_version = "HTTP/1.1"

    def __init__(self, answer: Callable[[Sent], Answer], *args: Any) -> None:
        self.answer = answer
        super().__init__(*args)

    def _serve(self) -> None:
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(headers.get("content-length", 0)))
        status, content = self.answer(Sent(self.command, url.path, query, _parsed(body, headers), headers))
        plain = api.ApiClient().sanitize_for_serialization(content)
        data = (plain if isinstance(plain, str) else json.dumps(plain)).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/html" if isinstance(plain, str) else "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = _serve  # noqa: N815

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def _parsed(body: bytes, headers: dict[str, str]) -> Any:
    kind = headers.get("content-type", "")
    if not body:
        return None
    if not kind.startswith("multipart/form-data"):
        return json.loads(body)
    message = BytesParser(policy=HTTP).parsebytes(f"Content-Type: {kind}\r\n\r\n".encode() + body)
    (part,) = [
        part for part in message.iter_parts() if part.get_param("name", header="content-disposition") == "uploadfile"
    ]
    return part.get_payload(decode=True).decode()
