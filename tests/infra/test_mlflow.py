"""MLflow's flags, hosts and webhooks, on the real server."""

from __future__ import annotations

import importlib.util
import json

import pytest

from tests.helpers.mlflow_server import ADMIN, PASSWORD, ask, compose_mlflow, kept, kubernetes_args

EXPERIMENTS = "/api/2.0/mlflow/experiments/search"

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("flask_wtf") is None, reason="no Flask-WTF: MLflow's basic-auth needs it (mlflow[auth])"
)


def test_flags_of_kubernetes_are_those_of_compose() -> None:
    ours, theirs = (
        {flag.split("=")[0] for flag in kept(flags)} for flags in (compose_mlflow()["command"], kubernetes_args())
    )
    assert ours == theirs


@pytest.mark.slow
def test_only_who_may_is_let_in(server: str) -> None:
    search = {"max_results": 1}
    assert ask(server, EXPERIMENTS, "mlflow:5000", search)[0] == 401
    assert ask(server, EXPERIMENTS, "mlflow:5000", search, login=(ADMIN, PASSWORD))[0] == 200
    assert ask(server, EXPERIMENTS, "elsewhere.example", search, login=(ADMIN, PASSWORD))[0] == 403


@pytest.mark.slow
def test_webhook_of_the_reconciler_can_be_kept(server: str) -> None:
    """Plain HTTP to a private address is allowed, and the encryption key is one that MLflow takes."""
    entry = {
        "name": "lorefuse-reconciler",
        "url": "http://reconciler:8650/webhook",
        "events": [{"entity": "MODEL_VERSION_ALIAS", "action": "CREATED"}],
        "secret": "s" * 24,
    }
    status, text = ask(server, "/api/2.0/mlflow/webhooks", "mlflow:5000", entry, login=(ADMIN, PASSWORD))
    assert status == 200, text
    assert json.loads(text)["webhook"]["url"] == entry["url"]
