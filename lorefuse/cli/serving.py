"""Commands around what is served: start and stop it, ask it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lorefuse.core.terminal import cell, plain

if TYPE_CHECKING:
    from lorefuse.registry.server import ServerStatus


def register_serving_commands(app: typer.Typer) -> None:
    """Add this module's commands to the command line."""
    for command in (up, down, ui, recommend, score):
        app.command()(command)


def up() -> None:
    """Start Triton with the deployed version, and MLflow; both stay until `lorefuse down`."""
    from lorefuse.deploy.deploy import up as start_triton
    from lorefuse.registry.server import start as start_mlflow

    facts = start_triton()
    typer.echo(f"Triton  {facts['url']} (version {facts['version'] or 'none yet: lorefuse run'})")
    typer.echo(_mlflow_line(start_mlflow()))


def down() -> None:
    """Stop the Triton and MLflow that this project started."""
    from lorefuse.deploy.supervisor import Supervisor
    from lorefuse.registry.server import stop as stop_mlflow

    for name, stopped in (("Triton", Supervisor().stop(on_purpose=True)), ("MLflow", stop_mlflow())):
        typer.echo(f"{name}  {'stopped' if stopped else 'was not running'}")


def ui(
    browser: Annotated[bool, typer.Option(help="Open the browser.")] = True,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Where MLflow listens, if it does not run yet.")] = 5500,
) -> None:
    """Open MLflow: runs, metrics, model versions and their aliases."""
    from lorefuse.registry.server import start

    typer.echo(_mlflow_line(start(port, open_browser=browser)))


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
    liked = ", ".join(answer.liked_titles[:8]) or "nothing yet (unknown user, or no history)"
    console.print(cell(f"User {user} liked: {liked}"))
    table = Table("#", "item", "title", "score", title=cell(f"Top {len(answer.items)} for user {user}"))
    for rank, item in enumerate(answer.items, start=1):
        table.add_row(str(rank), cell(item.item_id), cell(item.title), f"{item.score:.4f}")
    console.print(table)
    console.print(f"model version {answer.model_version}, data until {answer.data_cutoff}", highlight=False)


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


def _mlflow_line(server: ServerStatus) -> str:
    return f"MLflow  {server.url}" + (f" ({server.login})" if server.login else "")


def _served_bundle() -> Path:
    """Return the bundle of the version that Triton serves."""
    from lorefuse.deploy.deploy import served_bundle

    return served_bundle()
