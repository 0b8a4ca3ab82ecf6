"""Commands that run the other pipelines here: embed, tune, refresh, backfill."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from lorefuse.cli.study import ConfigOption
from lorefuse.core.errors import UsageError
from lorefuse.core.settings import settings


def register_pipeline_commands(app: typer.Typer) -> None:
    """Add this module's commands to the command line."""
    for name, command in (("embed", embed), ("tune", tune), ("refresh", refresh), ("backfill", backfill)):
        app.command(name=name)(command)


def embed(config: ConfigOption) -> None:
    """Encode the catalogue's texts in embedding.num_shards parts side by side; `lorefuse run` then finds them all."""
    from lorefuse.config import load_config

    load_config(config)  # a mistake in the preset is said before anything starts
    run_module("pipelines.run", ["--pipeline", "embed_shards", "--config", str(config.resolve())])


def tune(config: ConfigOption) -> None:
    """Search hyper-parameters with and without knowledge, in generations of trials side by side."""
    from lorefuse.config import load_config

    load_config(config)  # a mistake in the preset is said before anything starts
    run_module("pipelines.run", ["--pipeline", "tuning", "--config", str(config.resolve())])


def refresh(
    config: ConfigOption,
    new: Annotated[Path, typer.Option(help="File with new interactions, or a folder of them.")],
    new_items: Annotated[Path | None, typer.Option(help="File with new or changed items.")] = None,
    deploy: Annotated[bool, typer.Option(help="Bring fresh features, or a new champion, to Triton.")] = True,
) -> None:
    """Append new rows, hold the champion against them, and train again where drift or decay says so."""
    from lorefuse.config import load_config

    load_config(config)  # a mistake in the preset is said before anything starts
    arguments = ["--pipeline", "refresh", "--config", str(config.resolve()), "--new", str(new.resolve())]
    arguments += ["--new-items", str(new_items.resolve())] if new_items else []
    run_module("pipelines.run", [*arguments, *([] if deploy else ["--no-deploy"])])


def backfill(
    config: ConfigOption,
    first: Annotated[str, typer.Option(help="First day, YYYY-MM-DD in UTC.")],
    last: Annotated[str, typer.Option(help="Last day, itself included.")],
    days: Annotated[int, typer.Option(min=1, help="Days of a range; ranges run side by side.")] = 7,
) -> None:
    """Compute the features and text vectors that interactions of past days saw, as code and encoder now make them."""
    from lorefuse.config import load_config

    load_config(config)  # a mistake in the preset is said before anything starts
    arguments = ["--pipeline", "backfill", "--config", str(config.resolve()), "--first", first, "--last", last]
    run_module("pipelines.run", [*arguments, "--days", str(days)])


def run_module(name: str, arguments: list[str]) -> None:
    """Become the module's process; the pipelines live in the project, not in this package.

    Raises:
        UsageError: There are no pipelines in the project's folder.
    """
    project_path = settings().project_path
    if not (project_path / "pipelines").is_dir():
        raise UsageError(
            f"There are no pipelines in {project_path}.", fix="run inside a checkout, or set LOREFUSE_PROJECT to one"
        )
    os.chdir(project_path)
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", name, *arguments])  # noqa: S606
