"""Where MLflow may deliver webhooks to: the hosts that are listed, and nowhere else."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from lorefuse.core.errors import ConfigError, UsageError

HOSTS_VARIABLE = "LOREFUSE_WEBHOOK_HOSTS"
LOCAL_HOSTS = "127.0.0.1:8650"
"""Where a reconciler of this machine listens."""
_HOST = r"([a-z0-9](?:[a-z0-9._-]*[a-z0-9])?|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?"
# What no two parsers read differently: no user, no backslash, no sign beyond ASCII, the host up to the first / or ?.
_URL = re.compile(rf"(https?)://{_HOST}(?:[/?][!-\[\]-~]*)?", re.IGNORECASE | re.ASCII)
_ENTRY = re.compile(_HOST, re.IGNORECASE | re.ASCII)
_PORTS = {"http": "80", "https": "443"}


def listed_hosts(env: Mapping[str, str] | None = None) -> frozenset[str]:
    """Return the targets that `LOREFUSE_WEBHOOK_HOSTS` lists, each as ``host:port``.

    Args:
        env: Where to look; default: this process's environment. Where the variable is not set, nothing is listed.

    Raises:
        ConfigError: An entry is no ``host`` or ``host:port``; a host without a port means 443.
    """
    text = (os.environ if env is None else env).get(HOSTS_VARIABLE, "")
    found = set()
    for entry in filter(None, map(str.strip, text.split(","))):
        match = _ENTRY.fullmatch(entry)
        if match is None:
            raise ConfigError(
                f"{HOSTS_VARIABLE} cannot be read.", expected="host:port, several with commas", got=repr(entry)
            )
        found.add(f"{match[1].lower()}:{int(match[2] or _PORTS['https'])}")
    return frozenset(found)


def check_target(url: str, hosts: frozenset[str]) -> None:
    """Refuse a webhook whose host and port are not listed, letter by letter.

    Raises:
        UsageError: They are not, or the URL can be read in more than one way.
    """
    match = _URL.fullmatch(url)
    if match is None or f"{match[2].lower()}:{int(match[3] or _PORTS[match[1].lower()])}" not in hosts:
        raise UsageError(
            "MLflow may not deliver webhooks there.",
            expected=f"a URL of one of the hosts in {HOSTS_VARIABLE}: {', '.join(sorted(hosts)) or 'none'}",
            got=url[:200],
            fix=f"add host:port to {HOSTS_VARIABLE} of the MLflow server, and start it again",
        )


class _ListedOnly:
    """An adapter of requests in front of another; each hop of a redirect comes through it too."""

    def __init__(self, adapter: Any, hosts: frozenset[str]) -> None:
        self._adapter, self._hosts = adapter, hosts

    def send(self, request: Any, **options: Any) -> Any:
        check_target(str(request.url), self._hosts)
        return self._adapter.send(request, **options)

    def close(self) -> None:
        self._adapter.close()


def guard_deliveries(hosts: frozenset[str]) -> None:
    """Hold MLflow's deliveries in this process to the list: webhooks made before it was, and redirects.

    MLflow's own check of the peer, that refuses private addresses unless `MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS` is set,
    stays behind it.
    """
    from mlflow.webhooks.delivery import _get_or_create_webhook_session

    session = _get_or_create_webhook_session()
    for prefix in list(session.adapters):
        session.mount(prefix, _ListedOnly(session.adapters[prefix], hosts))


def refuse_webhook(hosts: frozenset[str]) -> Any:
    """Return MLflow's answer to a request, of Flask's, that would make a webhook for another host; else None."""
    from flask import request
    from mlflow.exceptions import MlflowException
    from mlflow.protos.webhooks_pb2 import CreateWebhook, UpdateWebhook
    from mlflow.server.handlers import _get_request_message

    rule = request.url_rule.rule if request.url_rule is not None else ""
    if "/mlflow/webhooks" not in rule or request.method not in ("POST", "PATCH") or rule.endswith("/test"):
        return None
    # As MLflow itself reads it, so that nothing is checked that is not what is done.
    message = _get_request_message(CreateWebhook() if request.method == "POST" else UpdateWebhook())
    if not message.url and request.method == "PATCH":
        return None  # only its name, say
    try:
        check_target(message.url, hosts)
    except UsageError as error:
        return refusal(MlflowException.invalid_parameter_value(str(error)))
    return None


def refusal(error: Any) -> Any:
    """Return an error of MLflow's as the answer that its clients understand."""
    from flask import Response

    return Response(error.serialize_as_json(), status=error.get_http_status_code(), mimetype="application/json")
