"""Makes the accounts of an MLflow that several use: one for each role, with what the role may and no more.

The administrator's login is the environment's (`MLFLOW_TRACKING_USERNAME`, `MLFLOW_TRACKING_PASSWORD`), and so are the
passwords. Asked again it changes what differs: a new password, a permission too many, an account that was the
administrator's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lorefuse.core.errors import UsageError
from lorefuse.core.settings import settings
from lorefuse.registry.access.roles import GRANTS, Role
from lorefuse.registry.local_store import is_server
from lorefuse.registry.tracking import connect, explained

MIN_PASSWORD = 12
_WORKSPACE = "default"


@dataclass(frozen=True)
class Account:
    """An account to make, or to bring up to date.

    Attributes:
        role: What it is for.
        username: Its name; the role's own unless ``LOREFUSE_MLFLOW_<ROLE>_USERNAME`` says otherwise.
        password: Of ``LOREFUSE_MLFLOW_<ROLE>_PASSWORD``.
    """

    role: Role
    username: str
    password: str = field(repr=False)


def accounts_of(env: Mapping[str, str]) -> list[Account]:
    """Return the account of every role, as the environment names them: `LOREFUSE_MLFLOW_TRAINER_PASSWORD` and so on.

    Raises:
        UsageError: A password is missing or too short, or two accounts have one name.
    """
    found, wrong = [], []
    for role in Role:
        prefix = f"LOREFUSE_MLFLOW_{role.name}"
        found.append(Account(role, env.get(f"{prefix}_USERNAME") or role, env.get(f"{prefix}_PASSWORD", "")))
        if len(found[-1].password) < MIN_PASSWORD:
            wrong.append(f"{prefix}_PASSWORD has {len(found[-1].password)}")
    if wrong:
        raise UsageError(
            "The passwords of MLflow's accounts come from the environment.",
            expected=f"{MIN_PASSWORD} characters or more in each",
            got=", ".join(wrong),
            fix="export a random one for each role: openssl rand -hex 24",
        )
    names = [account.username for account in found] + [env.get("MLFLOW_TRACKING_USERNAME", "")]
    if len(set(names)) < len(names):
        raise UsageError(
            "Every role, and the administrator, needs an account of its own.", got=", ".join(names), fix="rename one"
        )
    return found


def make_accounts(accounts: list[Account]) -> None:
    """Make the roles and accounts on the server of `MLFLOW_TRACKING_URI`, or bring them up to date.

    Raises:
        UsageError: `MLFLOW_TRACKING_URI` names no server, or the login is not the administrator's.
        UnreachableError: The server does not answer.
    """
    uri = settings().tracking_uri
    if not is_server(uri):
        raise UsageError("Accounts are a server's.", expected="MLFLOW_TRACKING_URI=http://…", got="a database")
    connect()
    from mlflow.server.auth.client import AuthServiceClient

    client = AuthServiceClient(uri)
    with explained("keep the accounts"):
        roles = {role: _make_role(client, role) for role in Role}
        for account in accounts:
            _make_account(client, account)
            held = {str(role.name): role.id for role in client.list_user_roles(account.username)}
            for name in set(map(str, Role)) & held.keys() - {str(account.role)}:
                client.unassign_role(account.username, held[name])
            if account.role not in held:
                client.assign_role(account.username, roles[account.role])


def _make_role(client: Any, role: Role) -> int:
    """Return the id of a role that grants what it shall and no more."""
    known = {entry.name: entry for entry in client.list_roles(_WORKSPACE)}
    entry = known.get(role) or client.create_role(_WORKSPACE, str(role), "Made by lorefuse accounts")
    missing = {(kind, "*", level) for kind, level in GRANTS[role].items()}
    for grant in client.list_role_permissions(entry.id):
        if (found := (grant.resource_type, grant.resource_pattern, grant.permission)) in missing:
            missing.remove(found)
        else:
            client.remove_role_permission(grant.id)
    for kind, pattern, level in sorted(missing):
        client.add_role_permission(entry.id, kind, pattern, level)
    return int(entry.id)


def _make_account(client: Any, account: Account) -> None:
    from mlflow.exceptions import MlflowException

    try:
        known = client.get_user(account.username)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        client.create_user(account.username, account.password)
        return
    if known.is_admin:
        client.update_user_admin(account.username, False)
    client.update_user_password(account.username, account.password)
