"""Commands that run the other pipelines here: embed, tune, refresh, backfill."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from lorefuse.cli.options import ConfigOption
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
    """Append new rows, judge the champion on them, and train again where there is drift or decay."""
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
    """Become the module's process: the pipelines and components are no part of this package.

    Raises:
        UsageError: The package is not whole.
    """
    places = [str(settings().folder(folder).parent) for folder in ("pipelines", "components")]
    given = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys([*places, *([given] if given else [])]))
    os.chdir(settings().project_path)
    sys.stdout.flush()
    # -P: a folder `pipelines` of the user's own, which is not ours, must not be taken for it.
    os.execv(sys.executable, [sys.executable, "-P", "-m", name, *arguments])  # noqa: S606
