"""Commands that move and show what is served, sign versions, bring new items, and back a home up."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lorefuse.core.errors import UnreachableError, UsageError
from lorefuse.core.log import LEVEL_VARIABLE

if TYPE_CHECKING:
    from lorefuse.deploy.state import ServerState
    from lorefuse.recovery.backup import Backup

SECRET_VARIABLE = "LOREFUSE_WEBHOOK_SECRET"  # noqa: S105  (the name of the variable)
ModelOption = Annotated[
    str | None, typer.Option(help="Registered model; default: lorefuse-ranker, or the only one with a champion.")
]
DeploymentOption = Annotated[Path | None, typer.Option("--config", help="YAML file of the deployment; default: none.")]


def register_deploy_commands(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command()(reconcile)
    app.command()(promote)
    app.command()(rollback)
    app.command()(status)
    app.command()(sign)
    app.command()(webhook)
    app.command(name="add-items")(add_items)
    app.command()(backup)
    app.command()(restore)


def reconcile(
    config: DeploymentOption = None,
    once: Annotated[bool, typer.Option("--once", help="Take one step on each server, and end.")] = False,
    webhook_port: Annotated[int, typer.Option(help="Listen for MLflow's webhooks here; 0: do not.", min=0)] = 0,
    webhook_host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    metrics_port: Annotated[int, typer.Option(help="Answer Prometheus here; 0: do not.", min=0)] = 0,
    metrics_host: Annotated[str, typer.Option(help="Address to answer it on.")] = "127.0.0.1",
    model: ModelOption = None,
) -> None:
    """Keep Triton at the registry's `champion`, whoever set it; until interrupted."""
    from lorefuse.config import load_deployment
    from lorefuse.core.settings import settings
    from lorefuse.deploy import metrics
    from lorefuse.deploy import webhook as hook
    from lorefuse.deploy.reconcile import Reconciler, only_one
    from lorefuse.registry.models import model_of

    deployment = load_deployment(config)
    if model or "model_name" not in deployment.model_fields_set:
        with contextlib.suppress(UnreachableError):  # a registry that is away may come back
            deployment = deployment.model_copy(update={"model_name": model_of(model)})
    verifier = hook.Verifier(_secret()) if webhook_port else None
    logging.getLogger("lorefuse").setLevel(os.environ.get(LEVEL_VARIABLE, "INFO").upper())
    with only_one(settings().serve_path):
        reconciler = Reconciler(deployment)
        if once:
            for state in reconciler.once():
                typer.echo(_line(state))
            return
        if verifier is not None:
            hook.serve(webhook_port, verifier, deployment.model_name, reconciler.watcher.hint, webhook_host)
        if metrics_port:
            metrics.serve(metrics_port, reconciler, metrics_host)
        typer.echo(f"Following {deployment.model_name}@champion; interrupt to end (servers go on)")
        reconciler.start()
        try:
            _wait_for_signal(threading.Event())
        finally:
            reconciler.close()


def promote(
    version: Annotated[str, typer.Argument(help="Number of the model version, or another alias of it.")],
    alias: Annotated[str, typer.Option(help="Alias to set.")] = "champion",
    model: ModelOption = None,
) -> None:
    """Set an alias by hand; again for the champion: retry it, or end its trial and let it take over."""
    from lorefuse.registry.deployment import request
    from lorefuse.registry.models import model_of
    from lorefuse.registry.version import get_version
    from lorefuse.registry.version import promote as set_alias

    name = model_of(model)
    number = str(get_version(name, version).version)
    set_alias(name, number, alias)
    if alias == "champion":
        request(name, number)
    typer.echo(f"{name} version {number} is {alias}")


def rollback(model: ModelOption = None) -> None:
    """Make the version champion again that answered before; it is still loaded, so this takes a moment."""
    from lorefuse.registry.deployment import roll_back
    from lorefuse.registry.models import model_of

    name = model_of(model)
    left, number = roll_back(name)
    typer.echo(f"{name}: back from version {left} to version {number}")


def status(
    config: DeploymentOption = None,
    model: ModelOption = None,
) -> None:
    """Show which version should answer and which does, on each server, since when and why; a request finds out."""
    from lorefuse.config import load_deployment
    from lorefuse.deploy.deploy import status as serving
    from lorefuse.deploy.reconcile import servers_of
    from lorefuse.deploy.replica import state_path
    from lorefuse.deploy.state import load_state
    from lorefuse.privacy.retrain import load_queue
    from lorefuse.registry.models import known_models
    from lorefuse.registry.server import where
    from lorefuse.registry.version import aliases

    deployment = load_deployment(config)
    for server in servers_of(deployment):
        facts = serving(server)
        said = f"version {facts['version']} answers" if facts["serving"] else facts["problem"]
        typer.echo(f"Triton  {facts['url']}: {said}")
        if state_path(server).is_file():
            typer.echo(f"        {_line(load_state(state_path(server), server.name))}")
    mlflow = where()
    typer.echo(f"MLflow  {mlflow.url}: {'running' if mlflow.running else 'not running'}")
    queued = load_queue()
    named = model or (deployment.model_name if "model_name" in deployment.model_fields_set else None)
    for name, known in ({named: aliases(named)} if named else known_models()).items():
        for alias, version in sorted(known.items()):
            typer.echo(f"{name}@{alias}: version {version}")
            for entry in queued:
                if (entry.model, entry.version) == (name, version):
                    typer.echo(f"        was trained on people who were forgotten: to be replaced by {entry.deadline}")


def sign(
    version: Annotated[str, typer.Argument(help="Number of the model version, or an alias of it.")],
    key_path: Annotated[Path, typer.Option(help="PEM file with the private key; kept off the servers.")],
    model: ModelOption = None,
) -> None:
    """Sign a version for reconcilers that ask for it; the key's password, if any: LOREFUSE_SIGNING_KEY_PASSWORD."""
    from lorefuse.registry.models import model_of
    from lorefuse.registry.signing import sign_version

    name = model_of(model)
    typer.echo(f"{name}: version {sign_version(name, version, key_path)} is signed")


def webhook(
    url: Annotated[str, typer.Option(help="Where MLflow delivers.")] = "http://127.0.0.1:8650/webhook",
) -> None:
    """Register the reconciler's webhook with MLflow; the secret comes from LOREFUSE_WEBHOOK_SECRET."""
    from lorefuse.deploy.webhook import EVENTS, register

    entry = register(url, _secret())
    typer.echo(f"{entry.name}: {', '.join(EVENTS)} → {entry.url}")


def add_items(
    config: Annotated[Path, typer.Option(help="YAML preset whose items file has grown.")],
    champion: Annotated[bool, typer.Option(help="Make the new version champion; else challenger.")] = True,
) -> None:
    """Bring new items into the served catalogue without training: embed them, and register a version that has them."""
    from lorefuse import steps
    from lorefuse.config import load_config
    from lorefuse.data.dataset import Dataset
    from lorefuse.registry.grow import grow_champion

    pipeline = load_config(config)
    dataset = Dataset.open(steps.ingest(steps.dump_config(pipeline)).path)
    grown = grow_champion(pipeline.registry.model_name, dataset, champion=champion)
    alias = "champion" if champion else "challenger"
    typer.echo(
        f"version {grown['version']} is {alias}: {grown['num_new']} new items, {grown['num_items']} in all, "
        f"grown from version {grown['grown_from']}"
    )
    after = "a running reconciler brings it up; else" if champion else "to serve it:"
    promotion = "" if champion else f"lorefuse promote {grown['version']}, then "
    typer.echo(f"Nothing serves it yet: {after} {promotion}lorefuse reconcile --once")


def _line(state: ServerState) -> str:
    """Return a server's state in one line."""
    parts = [f"{state.server}: {state.stage}", f"desired {state.desired}", f"actual {state.actual}"]
    if state.candidate is not None:
        parts.append(f"version {state.candidate} tried on {state.share:.0%} of the users")
    parts += [f"since {state.since}"] if state.since else []
    parts += [state.reason] if state.reason else []
    parts += [f"problem: {problem.splitlines()[0]}" for problem in (state.problem, state.registry) if problem]
    return "; ".join(parts)


def _secret() -> str:
    secret = os.environ.get(SECRET_VARIABLE, "")
    if len(secret) < 16:
        raise UsageError(
            f"{SECRET_VARIABLE} must hold the webhook's secret.",
            expected="16 characters or more",
            got=f"{len(secret)} characters",
            fix=f"export {SECRET_VARIABLE}=$(openssl rand -hex 24), here and where the webhook is registered",
        )
    return secret


def _wait_for_signal(event: threading.Event) -> None:
    """Wait until the process is asked to end."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: event.set())
    while not event.wait(3600):
        pass


def backup(out: Annotated[Path, typer.Option(help="File to make, outside the home.")]) -> None:
    """Write the home into one file while everything runs: registry, artifacts, served versions, studies, reports."""
    from lorefuse.recovery.backup import back_up

    _say_backup(f"Written to {out}", back_up(out))


def restore(backup_path: Annotated[Path, typer.Argument(help="File of lorefuse backup.")]) -> None:
    """Make LOREFUSE_HOME, which must be missing or empty, of a backup; then lorefuse up."""
    from lorefuse.core.settings import settings
    from lorefuse.recovery.backup import restore as restore_home

    _say_backup(f"Restored to {settings().home_path}", restore_home(backup_path))


def _say_backup(done: str, found: Backup) -> None:
    typer.echo(f"{done}: {found.num_files:,} files, {found.num_bytes / 1e6:,.1f} MB")
    for store in found.elsewhere:
        typer.echo(f"Not in it: {store}, which is on a server; its own tools back it up")
