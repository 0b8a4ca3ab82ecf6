"""What each role may and may not do, on the real MLflow server with the configuration of compose.yaml."""

from __future__ import annotations

import importlib.util
import json
from typing import Any

import pytest

from lorefuse.core.errors import LorefuseError, UsageError
from lorefuse.deploy import webhook
from lorefuse.registry.access.accounts import Account, accounts_of, make_accounts
from lorefuse.registry.access.roles import CHANGES, Role
from lorefuse.registry.deployment import request as ask_anew
from lorefuse.registry.tracking import connect, explained
from lorefuse.registry.version import aliases, promote
from tests.helpers import artifacts
from tests.helpers.mlflow_server import ADMIN, PASSWORD, ask
from tests.unit.registry.conftest import Workbench

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("flask_wtf") is None, reason="no Flask-WTF: MLflow's basic-auth needs it"
    ),
]
NAME = artifacts.CONFIG.registry.model_name
PREFIXES = ("/api/2.0/mlflow", "/ajax-api/2.0/mlflow", "/api/2.0/preview/mlflow")
ALIAS = {"name": NAME, "alias": "champion", "version": "1"}


def passwords() -> dict[str, str]:
    return {f"LOREFUSE_MLFLOW_{role.name}_PASSWORD": f"a-password-of-{role}" for role in Role}


def login(role: Role) -> tuple[str, str]:
    return str(role), f"a-password-of-{role}"


@pytest.fixture(scope="module")
def accounts(server: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """URL of the server, with an account a role and a registered version of the trainer's that nobody promoted."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOREFUSE_HOME", str(tmp_path_factory.mktemp("home")))
        become(server, patch, (ADMIN, PASSWORD))
        make_accounts(accounts_of(passwords()))
        make_accounts(accounts_of(passwords()))  # again: nothing to do
        become(server, patch, login(Role.TRAINER))
        # All that the step `register` does but the aliases, which it does last.
        with pytest.raises(UsageError, match="does not let this account set the alias challenger") as caught:
            Workbench(tmp_path_factory.mktemp("work")).register()
        assert "POST mlflow/registered-models/alias is not for lorefuse-trainer" in str(caught.value)
    return server


def become(url: str, patch: pytest.MonkeyPatch, account: tuple[str, str]) -> None:
    patch.setenv("MLFLOW_TRACKING_URI", url)
    patch.setenv("MLFLOW_TRACKING_USERNAME", account[0])
    patch.setenv("MLFLOW_TRACKING_PASSWORD", account[1])


def status(url: str, path: str, body: Any, account: tuple[str, str] | None, method: str | None = None) -> int:
    return ask(url, path, "mlflow:5000", body, login=account, method=method)[0]


def test_the_trainer_registers_and_sets_no_alias(accounts: str, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = login(Role.TRAINER)
    for prefix in PREFIXES:
        for method in ("POST", "DELETE"):
            assert status(accounts, f"{prefix}/registered-models/alias", ALIAS, trainer, method) == 403
        assert status(accounts, f"{prefix}/registered-models/alias", ALIAS, None) == 401
    for odd in ("//api/2.0/mlflow/registered-models/alias", "/api/2.0/mlflow/registered-models/%61lias"):
        assert status(accounts, odd, ALIAS, trainer) in (308, 403, 404), odd
    assert status(accounts, "/api/2.0/mlflow/registered-models/alias/", ALIAS, trainer) in (308, 403, 404, 405)
    become(accounts, monkeypatch, trainer)
    client = connect()
    (version,) = client.search_model_versions(f"name='{NAME}'")
    assert (version.version, aliases(NAME)) == ("1", {})
    # It made the model, so to MLflow's own permissions it is its owner; not to ours.
    owner = "/api/3.0/mlflow/users/permissions/grant"
    grant = {"username": "lorefuse-reader", "resource_type": "registered_model", "resource_id": NAME}
    assert status(accounts, owner, {**grant, "permission": "MANAGE"}, trainer) == 403
    assert status(accounts, "/api/2.0/mlflow/registered-models/delete", {"name": NAME}, trainer, "DELETE") == 403
    tag = {"name": NAME, "version": "1", "key": "lorefuse.bundle_sha256", "value": "x"}
    assert status(accounts, "/api/2.0/mlflow/model-versions/set-tag", tag, trainer) == 403
    forged = {"name": NAME, "source": version.source, "tags": [{"key": "lorefuse.deployment.state", "value": "live"}]}
    assert status(accounts, "/api/2.0/mlflow/model-versions/create", forged, trainer) == 403
    double = json.dumps({**forged, "run_id": version.run_id})  # twice JSON, as MLflow takes it of old clients
    assert status(accounts, "/ajax-api/2.0/mlflow/model-versions/create", double, trainer) == 403


def test_the_promoter_sets_and_takes_aliases(accounts: str, monkeypatch: pytest.MonkeyPatch) -> None:
    become(accounts, monkeypatch, login(Role.PROMOTER))
    promote(NAME, "1", "champion")
    assert aliases(NAME) == {"champion": "1"}
    ask_anew(NAME, "1")
    connect().set_model_version_tag(NAME, "1", "lorefuse.gate", "promoted")
    for prefix in PREFIXES[:2]:
        body = {**ALIAS, "alias": "mine"}
        assert status(accounts, f"{prefix}/registered-models/alias", body, login(Role.PROMOTER)) == 200
        assert status(accounts, f"{prefix}/registered-models/alias", body, login(Role.PROMOTER), "DELETE") == 200
    with pytest.raises(UsageError, match="does not let"), explained("say that it is live"):
        connect().set_model_version_tag(NAME, "1", "lorefuse.deployment.state", "live")
    assert (
        status(accounts, PREFIXES[0] + "/registered-models/delete", {"name": NAME}, login(Role.PROMOTER), "DELETE")
        == 403
    )


def test_the_reconciler_writes_its_tags_alone(accounts: str, monkeypatch: pytest.MonkeyPatch) -> None:
    become(accounts, monkeypatch, login(Role.RECONCILER))
    client = connect()
    client.set_model_version_tag(NAME, "1", "lorefuse.deployment.state", "live")
    assert client.get_model_version(NAME, "1").tags["lorefuse.deployment.state"] == "live"
    artifact = client.list_logged_model_artifacts(client.get_model_version(NAME, "1").source.rpartition("/")[2])
    assert artifact, "it has to fetch what it serves"
    for key in ("lorefuse.deployment.request", "lorefuse.bundle_sha256", "other"):
        with pytest.raises(UsageError, match="does not let"), explained("tag"):
            client.set_model_version_tag(NAME, "1", key, "x")
    with pytest.raises(UsageError, match="does not let"):
        promote(NAME, "1", "second")


def test_the_reader_changes_nothing(accounts: str, monkeypatch: pytest.MonkeyPatch) -> None:
    become(accounts, monkeypatch, login(Role.READER))
    assert connect().get_model_version(NAME, "1").version == "1"
    reader = login(Role.READER)
    assert status(accounts, "/", None, reader) == 200, "the UI opens"
    assert status(accounts, "/ajax-api/2.0/mlflow/runs/search", {"experiment_ids": ["1"]}, reader) == 200
    assert status(accounts, "/graphql", {"query": "{ __typename }"}, reader) == 200
    assert status(accounts, "/graphql", {"query": "{ __typename }"}, None) == 401
    for asked in set().union(*CHANGES.values()):
        method, _, route = asked.partition(" ")
        for prefix in ("/api/2.0/", "/ajax-api/2.0/"):
            path = prefix + route.replace("<model_id>", "m-1").replace("<path:artifact_path>", "1/x/y.txt")
            assert status(accounts, path, {"name": "new"}, reader, method) == 403, asked
    assert status(accounts, "/v1/traces", {}, reader) == 403


def test_an_account_without_a_role_sees_nothing(accounts: str, monkeypatch: pytest.MonkeyPatch) -> None:
    nobody = ("nobody", "a-password-of-nobody")
    made = {"username": nobody[0], "password": nobody[1]}
    assert status(accounts, "/api/2.0/mlflow/users/create", made, (ADMIN, PASSWORD)) in (200, 201)
    assert status(accounts, f"{PREFIXES[0]}/registered-models/get?name={NAME}", None, nobody) == 403
    assert status(accounts, f"{PREFIXES[0]}/experiments/create", {"name": "x"}, nobody) == 403
    found = ask(accounts, f"{PREFIXES[0]}/model-versions/search", "mlflow:5000", login=nobody)[1]
    assert "lorefuse" not in found


def test_made_again_an_account_is_brought_back_to_its_role(accounts: str, monkeypatch: pytest.MonkeyPatch) -> None:
    become(accounts, monkeypatch, (ADMIN, PASSWORD))
    admin = (ADMIN, PASSWORD)
    raised = {"username": "lorefuse-reader", "is_admin": True}
    assert status(accounts, "/api/2.0/mlflow/users/update-admin", raised, admin, "PATCH") == 200
    experiment = {"name": "by the reader"}
    assert status(accounts, f"{PREFIXES[0]}/experiments/create", experiment, login(Role.READER)) == 200
    wanted = [one for one in accounts_of(passwords()) if one.role is not Role.READER]
    make_accounts([*wanted, Account(Role.READER, "lorefuse-reader", "another-password")])
    assert status(accounts, "/version", None, login(Role.READER)) == 401
    assert status(accounts, "/version", None, ("lorefuse-reader", "another-password")) == 200
    other = {"name": "by the reader again"}
    assert status(accounts, f"{PREFIXES[0]}/experiments/create", other, ("lorefuse-reader", "another-password")) == 403
    make_accounts(accounts_of(passwords()))


def test_webhooks_go_to_the_reconciler_alone_whoever_asks(accounts: str, monkeypatch: pytest.MonkeyPatch) -> None:
    become(accounts, monkeypatch, (ADMIN, PASSWORD))
    for place in ("169.254.169.254", "127.0.0.1:8650", "postgres:5432", "hooks.example.org", "reconciler:8651"):
        with pytest.raises(LorefuseError, match="may not deliver"):
            webhook.register(f"http://{place}/webhook", "s" * 24)
    entry = webhook.register("http://reconciler:8650/webhook", "s" * 24)
    body = {"url": "http://169.254.169.254/"}
    for prefix in PREFIXES[:2]:
        assert status(accounts, f"{prefix}/webhooks/{entry.webhook_id}", body, (ADMIN, PASSWORD), "PATCH") == 400
    for role in Role:
        assert status(accounts, f"{PREFIXES[0]}/webhooks", {"url": entry.url}, login(role)) == 403
        assert status(accounts, f"{PREFIXES[0]}/webhooks", None, login(role)) == 403


def test_passwords_that_are_missing_or_short_are_the_users_error() -> None:
    with pytest.raises(UsageError, match="LOREFUSE_MLFLOW_READER_PASSWORD has 0") as caught:
        accounts_of({name: text for name, text in passwords().items() if "READER" not in name})
    assert caught.value.exit_code == 2
    with pytest.raises(UsageError, match="account of its own"):
        accounts_of({**passwords(), "LOREFUSE_MLFLOW_READER_USERNAME": "boss", "MLFLOW_TRACKING_USERNAME": "boss"})
    assert "a-password" not in repr(accounts_of(passwords()))
