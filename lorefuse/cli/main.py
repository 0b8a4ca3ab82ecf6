"""The command line. Heavy imports happen inside the commands: ``lorefuse --help`` answers at once."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lorefuse.cli.cluster import register_cluster_commands
from lorefuse.cli.deploy import register_deploy_commands
from lorefuse.cli.pipelines import register_pipeline_commands, run_module
from lorefuse.cli.privacy import register_privacy_commands
from lorefuse.cli.study import ConfigOption, register_study_commands
from lorefuse.core.errors import LorefuseError
from lorefuse.core.log import log_to_stderr
from lorefuse.core.profiles import PROFILE_VARIABLE
from lorefuse.core.terminal import cell, plain

if TYPE_CHECKING:
    from lorefuse.registry.server import ServerStatus

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Inject language-model knowledge into a recommender, prove whether it helped, and serve it with Triton.",
)
register_study_commands(app)
register_deploy_commands(app)
register_pipeline_commands(app)
register_cluster_commands(app)
register_privacy_commands(app)


@app.command()
def run(
    config: ConfigOption,
    deploy: Annotated[bool, typer.Option(help="Bring a new champion to Triton.")] = True,
    profile: Annotated[str, typer.Option(help="Stores of pipelines/profiles/<name>.yaml.")] = "",
) -> None:
    """Run the training pipeline here: ingest, features, embeddings, tuning, registry, Triton."""
    from lorefuse.config import load_config

    load_config(config)  # a mistake in the preset is said before anything starts
    if profile:
        os.environ[PROFILE_VARIABLE] = profile
    arguments = ["--config", str(config.resolve()), *([] if deploy else ["--no-deploy"])]
    run_module("pipelines.run", arguments)


@app.command()
def recommend(
    user: Annotated[str, typer.Option("--user", help="User id; an unknown one is answered too.")],
    k: Annotated[int, typer.Option("-k", help="How many items.")] = 10,
    exclude_seen: Annotated[bool, typer.Option(help="Leave out what the user has seen.")] = True,
    url: Annotated[str | None, typer.Option(help="gRPC address of Triton; default: LOREFUSE_TRITON_URL.")] = None,
) -> None:
    """Ask Triton for a user's top items, and show what the user liked."""
    from rich.console import Console
    from rich.table import Table

    from lorefuse.client import Client

    with Client(url) as client:
        answer = client.recommend(user, k, exclude_seen=exclude_seen)
    console = Console()
    liked = ", ".join(answer.liked_titles[-8:]) or "nothing yet (unknown user, or no history)"
    console.print(cell(f"User {user} liked: {liked}"))
    table = Table("#", "item", "title", "score", title=cell(f"Top {len(answer.items)} for user {user}"))
    for rank, item in enumerate(answer.items, start=1):
        table.add_row(str(rank), cell(item.item_id), cell(item.title), f"{item.score:.4f}")
    console.print(table)
    console.print(f"model version {answer.model_version}, data until {answer.data_cutoff}", highlight=False)


@app.command()
def score(
    user: Annotated[str, typer.Option("--user", help="User id.")],
    text: Annotated[str, typer.Option("--item-text", help="Text of an item that nobody has seen.")],
    url: Annotated[str | None, typer.Option(help="gRPC address of Triton; default: LOREFUSE_TRITON_URL.")] = None,
) -> None:
    """Score a brand-new item from its text alone, and say where it would stand in the catalogue."""
    from lorefuse.client import Client
    from lorefuse.deploy.new_item import new_item_tensors, standing

    bundle_path = _served_bundle()
    with Client(url) as client:
        place = standing(client, user, new_item_tensors(text, bundle_path), bundle_path)
    typer.echo(plain(f"score {place.score:.4f}: rank {place.rank:,} of {place.num_items:,} for user {user}"))


@app.command()
def up() -> None:
    """Start Triton with the deployed version, and MLflow; both stay until `lorefuse down`."""
    from lorefuse.deploy.deploy import up as start_triton
    from lorefuse.registry.server import start as start_mlflow

    facts = start_triton()
    typer.echo(f"Triton  {facts['url']} (version {facts['version'] or 'none yet: lorefuse run'})")
    typer.echo(_mlflow_line(start_mlflow()))


@app.command()
def down() -> None:
    """Stop the Triton and MLflow that this project started."""
    from lorefuse.deploy.supervisor import Supervisor
    from lorefuse.registry.server import stop as stop_mlflow

    for name, stopped in (("Triton", Supervisor().stop(on_purpose=True)), ("MLflow", stop_mlflow())):
        typer.echo(f"{name}  {'stopped' if stopped else 'was not running'}")


@app.command()
def ui(
    browser: Annotated[bool, typer.Option(help="Open the browser.")] = True,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Where MLflow listens, if it does not run yet.")] = 5500,
) -> None:
    """Open MLflow: runs, metrics, model versions and their aliases."""
    from lorefuse.registry.server import start

    typer.echo(_mlflow_line(start(port, open_browser=browser)))


def _mlflow_line(server: ServerStatus) -> str:
    return f"MLflow  {server.url}" + (f" ({server.login})" if server.login else "")


def _served_bundle() -> Path:
    """Return the bundle of the version that Triton serves."""
    from lorefuse.deploy.deploy import served_bundle

    return served_bundle()


def main() -> None:
    """Run the command line: one clear message for an error, exit code 2 for the user's mistake and 1 for ours."""
    try:
        log_to_stderr()
        app()
    except LorefuseError as error:
        typer.echo(plain(str(error)), err=True)
        sys.exit(error.exit_code)
