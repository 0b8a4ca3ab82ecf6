"""The app of the MLflow that `lorefuse ui` starts: one login for its owner, for a machine may have other users.

No accounts and no roles: whoever has the login is the owner. MLflow itself checks where a page came from.
"""

from __future__ import annotations

import base64
import hmac
import os
from collections.abc import Awaitable, Callable
from typing import Any

from mlflow.server import app as _flask_app
from mlflow.server.fastapi_app import app as _mlflow_app

from lorefuse.registry.access.hosts import guard_deliveries, listed_hosts, refuse_webhook
from lorefuse.registry.own_server import USER
from lorefuse.registry.server import PASSWORD_VARIABLE

_LOGIN = base64.b64encode(f"{USER}:{os.environ[PASSWORD_VARIABLE]}".encode())
_HEADERS = [(b"content-type", b"text/plain"), (b"www-authenticate", b'Basic realm="MLflow of Lorefuse"')]
_ANSWER = b"This MLflow is its owner's. Login: `lorefuse ui` says where the password is.\n"

_flask_app.before_request(lambda: refuse_webhook(listed_hosts()))
guard_deliveries(listed_hosts())


async def app(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    """Answer as MLflow does where the login is right; `/health` tells anybody that it is there, and no more."""
    if scope["type"] == "lifespan" or _is_let_in(scope):
        await _mlflow_app(scope, receive, send)
    elif scope["type"] == "http":
        await send({"type": "http.response.start", "status": 401, "headers": _HEADERS})
        await send({"type": "http.response.body", "body": _ANSWER})


def _is_let_in(scope: dict[str, Any]) -> bool:
    if scope["type"] != "http":
        return False
    given = [value for name, value in scope["headers"] if name == b"authorization"]
    kind, _, login = given[0].partition(b" ") if len(given) == 1 else (b"", b"", b"")
    return scope["path"] == "/health" or (kind.lower() == b"basic" and hmac.compare_digest(login.strip(), _LOGIN))
