"""MLflow's webhook as a hint: a signed, fresh and first delivery makes the reconciler look at the registry at once.

What a delivery says is never trusted further: the registry itself is read afterwards. Losing one costs a poll.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from lorefuse.core.errors import LorefuseError, UsageError
from lorefuse.core.schema import Alias
from lorefuse.core.settings import settings
from lorefuse.registry.access.hosts import check_target, listed_hosts
from lorefuse.registry.local_store import is_server
from lorefuse.registry.server import webhook_environment
from lorefuse.registry.tracking import connect, explained

if TYPE_CHECKING:
    from mlflow.entities.webhook import Webhook

HOST, PATH = "127.0.0.1", "/webhook"
MAX_AGE_S, MAX_BODY_BYTES = 300, 65_536
EVENTS = ("model_version_alias.created", "model_version_alias.deleted")
WEBHOOK_NAME = "lorefuse-reconciler"
_MAX_REMEMBERED = 10_000
MAX_AT_ONCE, _MAX_DIGITS = 16, 12
_log = logging.getLogger(__name__)


class RefusedDeliveryError(LorefuseError):
    """A delivery that is unsigned, wrongly signed, old, repeated or not JSON."""


@dataclass
class Verifier:
    """Tells MLflow's own deliveries from others.

    Attributes:
        secret: Shared with MLflow (`LOREFUSE_WEBHOOK_SECRET`).
    """

    secret: str = field(repr=False)
    _seen: OrderedDict[str, float] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def check(self, headers: Mapping[str, str], body: bytes, now_s: float | None = None) -> dict[str, Any]:
        """Return the content of a delivery.

        Args:
            headers: HTTP headers; case does not matter.
            body: The request's bytes.
            now_s: Unix time; default: now.

        Raises:
            RefusedDeliveryError: It is not one of MLflow's, or not for the first time.
        """
        now_s = time.time() if now_s is None else now_s
        headers = {name.lower(): value for name, value in headers.items()}
        delivery_id, stamp = headers.get("x-mlflow-delivery-id", ""), headers.get("x-mlflow-timestamp", "")
        signed = f"{delivery_id}.{stamp}.".encode() + body
        expected = "v1," + base64.b64encode(hmac.digest(self.secret.encode(), signed, hashlib.sha256)).decode()
        given = headers.get("x-mlflow-signature", "")
        if not hmac.compare_digest(expected.encode(), given.encode()):
            raise RefusedDeliveryError("The signature does not fit.", fix="register the webhook with the same secret")
        if not stamp.isdigit() or abs(now_s - int(stamp)) > MAX_AGE_S:
            raise RefusedDeliveryError("The delivery is too old.", expected=f"at most {MAX_AGE_S} s", got=stamp)
        self._remember(delivery_id, now_s)
        try:
            content = json.loads(body)
        except ValueError:
            content = None
        if not isinstance(content, dict) or not isinstance(content.get("data"), dict):
            raise RefusedDeliveryError(
                "The delivery is no webhook of MLflow's.", got=body[:80].decode("utf-8", "replace")
            )
        return content

    def _remember(self, delivery_id: str, now_s: float) -> None:
        with self._lock:
            while self._seen and next(iter(self._seen.values())) < now_s - 2 * MAX_AGE_S:
                self._seen.popitem(last=False)
            if not delivery_id or delivery_id in self._seen or len(self._seen) >= _MAX_REMEMBERED:
                raise RefusedDeliveryError("This delivery was here before.", got=delivery_id)
            self._seen[delivery_id] = now_s


def serve(
    port: int, verifier: Verifier, model_name: str, hint: Callable[[int | None], None], host: str = HOST
) -> ThreadingHTTPServer:
    """Listen for deliveries in a thread of its own.

    Args:
        port: TCP port; 0 takes a free one.
        verifier: Tells whom to believe.
        model_name: Deliveries about other models, or other aliases than `champion`, are ignored.
        hint: Called with the version that the alias was given, or None where it was taken away.
        host: Address to bind to.

    Returns:
        The server; `shutdown` ends it.

    Raises:
        UsageError: The port is taken.
    """

    class Handler(BaseHTTPRequestHandler):
        timeout = 10

        def do_POST(self) -> None:
            length = _number(self.headers.get("Content-Length", ""))
            if self.path != PATH or length is None or length > MAX_BODY_BYTES:
                self._answer(404 if self.path != PATH else 413, "not here")
                return
            try:
                content = verifier.check(dict(self.headers.items()), self.rfile.read(length))
            except RefusedDeliveryError as error:
                _log.warning("Webhook refused: %s", error)
                self._answer(401, str(error).splitlines()[0])
                return
            data = content["data"]
            if data.get("name") == model_name and data.get("alias") == Alias.CHAMPION:
                hint(_number(str(data.get("version", ""))))
            self._answer(200, "ok")

        def _answer(self, code: int, text: str) -> None:
            self.send_response(code)
            self.send_header("Content-Type", "text/plain")
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, format: str, *args: Any) -> None:
            _log.debug(format, *args)

    try:
        server = _Server((host, port), Handler)
    except OSError as error:
        raise UsageError(f"The webhook cannot listen on port {port}.", got=str(error), fix="name another") from None
    threading.Thread(target=server.serve_forever, name="webhook", daemon=True).start()
    return server


class _Server(ThreadingHTTPServer):
    """A thread for each delivery, but only so many at once: whoever comes beyond that is hung up on."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self._room = threading.BoundedSemaphore(MAX_AT_ONCE)
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._room.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        _log.debug("a delivery from %s broke off", client_address, exc_info=True)


def _number(text: str) -> int | None:
    """Return a number of plain digits; None for anything else, such as digits of other scripts."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < _MAX_DIGITS else None


def register(url: str, secret: str) -> Webhook:
    """Register the reconciler's webhook with MLflow, or bring the one that is there up to date.

    Args:
        url: Where MLflow shall deliver, e.g. ``http://127.0.0.1:8650/webhook``.
        secret: Signs the deliveries.

    Raises:
        UsageError: The host is not listed in `LOREFUSE_WEBHOOK_HOSTS`; of a server its own list decides.
        LorefuseError: MLflow refused, e.g. a URL of this machine without `MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS=true`.
    """
    if not is_server(settings().tracking_uri):
        # Written to the database, past every server: under the key and the list that this home's own will have.
        for name, text in webhook_environment().items():
            os.environ.setdefault(name, text)
        check_target(url, listed_hosts())
    client = connect()
    text = "Tells lorefuse reconcile that an alias moved"
    with explained("register the webhook"):
        for known in client.list_webhooks():
            if known.name == WEBHOOK_NAME:
                return client.update_webhook(known.webhook_id, url=url, events=list(EVENTS), secret=secret)
        return client.create_webhook(WEBHOOK_NAME, url, list(EVENTS), description=text, secret=secret)
