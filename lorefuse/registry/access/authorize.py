"""The `authorization_function` of MLflow's basic-auth app, as `mlflow-auth.ini` names it: roles and listed webhooks.

MLflow calls it first at each request, in Flask as in FastAPI, and asks its own permissions afterwards. It runs in the
server alone. Whatever it cannot decide it refuses.
"""

from __future__ import annotations

from typing import Any

from flask import Response, g, request
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED
from mlflow.protos.model_registry_pb2 import CreateModelVersion, SetModelVersionTag
from mlflow.server.handlers import _get_request_message

from lorefuse.registry.access.hosts import guard_deliveries, listed_hosts, refusal, refuse_webhook
from lorefuse.registry.access.roles import CREATE_VERSION, SET_TAG, operation, why_not

_HOSTS = listed_hosts()
guard_deliveries(_HOSTS)


def authenticate() -> Any:
    """Return who asks, or MLflow's answer to somebody who may not: 401 without a login, 403 without the role.

    The administrator may do everything but send webhooks to a host that is not listed.
    """
    if "lorefuse_verdict" not in g:  # MLflow asks several times in one request, and a password takes a while to check
        g.lorefuse_verdict = _judge()
    return g.lorefuse_verdict


def _judge() -> Any:
    # Not at the top: MLflow reads its configuration, which names this module, when that one is imported.
    from mlflow.server.auth import authenticate_request_basic_auth, store

    login = authenticate_request_basic_auth()
    if isinstance(login, Response):
        return login
    account = store.get_user(login.username)
    if not account.is_admin:
        asked = operation(request.method, request.url_rule.rule if request.url_rule is not None else "")
        reason = why_not([role.name for role in store.list_user_roles(account.id)], asked, _tags(asked))
        if reason:
            return refusal(MlflowException(f"{login.username}: {reason}.", PERMISSION_DENIED))
    return refuse_webhook(_HOSTS) or login


def _tags(asked: str) -> list[str]:
    """Return the keys of the tags that a request would write to a version, read as MLflow itself reads them."""
    if asked == SET_TAG:
        return [str(_get_request_message(SetModelVersionTag()).key)]
    if asked == CREATE_VERSION:
        return [str(tag.key) for tag in _get_request_message(CreateModelVersion()).tags]
    return []
