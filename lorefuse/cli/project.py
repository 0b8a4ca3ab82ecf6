"""Commands to begin with: a new project, its serving environment, and what is missing on this machine."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Annotated

import typer

from lorefuse.cli.options import CONFIG_FILE, ConfigOption
from lorefuse.cli.pipelines import run_module
from lorefuse.core.errors import ConfigError, UsageError
from lorefuse.core.profiles import PROFILE_VARIABLE
from lorefuse.core.terminal import plain

_IGNORED = ".lorefuse/\n.venv-serve/\n"
_DEMO = "movielens_100k.yaml"
FileOption = Annotated[Path | None, typer.Option(help="CSV, JSON lines or Parquet.")]
ColumnOption = Annotated[str | None, typer.Option(help="The column's name, where it is no usual one.")]


def register_project_commands(app: typer.Typer) -> None:
    """Add this module's commands to the command line."""
    for name, command in (
        ("run", run), ("init", init), ("setup-serving", setup_serving), ("doctor", doctor),
        ("config", config),
    ):  # fmt: skip
        app.command(name=name)(command)


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


def init(
    folder: Annotated[Path, typer.Argument(help="The project's folder, made where it is missing.")],
    interactions: FileOption = None,
    items: FileOption = None,
    users: FileOption = None,
    user_id: ColumnOption = None,
    item_id: ColumnOption = None,
    timestamp: ColumnOption = None,
    value: ColumnOption = None,
    serving: Annotated[bool, typer.Option(help="Also make the environment that Triton runs in.")] = True,
) -> None:
    """Begin a project: a configuration for your files (or for the demo on MovieLens-100K), ready for `lorefuse run`."""
    config_path = folder / CONFIG_FILE
    if config_path.exists():
        raise UsageError(f"{config_path} is there already.", fix="name another folder, or edit that file")
    if (interactions is None) != (items is None):
        raise UsageError("--interactions and --items belong together.", fix="name both, or neither for the demo")
    given = {"user_id": user_id, "item_id": item_id, "timestamp": timestamp, "value": value}
    if interactions is None or items is None:
        text = _demo_config()
    else:
        chosen = {key: column for key, column in given.items() if column}
        text = _own_config(folder, interactions, items, users, chosen)
    _write(folder, text)
    typer.echo(f"{config_path} is written: read it, it says what was recognised")
    if serving:
        os.environ["LOREFUSE_PROJECT"] = str(folder.resolve())
        setup_serving()
    typer.echo(f"Next: cd {folder} && lorefuse run")


def setup_serving() -> None:
    """Make the environment that Triton runs in, from its locks (some 700 MB)."""
    from lorefuse.deploy.serving_env import make_serving_env

    typer.echo(f"Triton's environment: {make_serving_env().parents[1]}")


def doctor() -> None:
    """List what is missing or incomplete on this machine, and how to repair it; exit code 2 if it is needed."""
    from lorefuse.cli.doctor import MISSING, examine

    findings = examine()
    width = max(len(one.name) for one in findings)
    for one in findings:
        fix = f"  fix: {one.fix}" if one.fix else ""
        typer.echo(plain(f"{one.state:<8}  {one.name:<{width}}  {one.found}{fix}"))
    if any(one.state == MISSING for one in findings):
        raise typer.Exit(2)


def config(
    path: ConfigOption,
    reference: Annotated[bool, typer.Option("--reference", help="Print every key there is, as Markdown.")] = False,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON schema, for an editor.")] = False,
) -> None:
    """Show what a configuration comes to, key by key, and where each value is from; or every key there is."""
    import json

    from lorefuse.auto.pinned import as_chosen
    from lorefuse.config import explain, load_config

    if reference or schema:
        typer.echo(explain.reference() if reference else json.dumps(explain.schema(), indent=2))
        return
    loaded = load_config(path)
    chosen = None
    if loaded.auto is not None:
        with contextlib.suppress(ConfigError):  # no race has chosen yet
            chosen = as_chosen(loaded, required=True)
    values = explain.effective(loaded, path, chosen)
    width = max(len(one.key) for one in values)
    for one in values:
        text = json.dumps(one.value, ensure_ascii=False)
        source = "" if one.source == explain.DEFAULT else f"  # {one.source}"
        typer.echo(plain(f"{one.key:<{width}}  {text}{source}"))


def _demo_config() -> str:
    from lorefuse.core.settings import settings

    return (settings().folder("pipelines") / "configs" / _DEMO).read_text("utf-8")


def _own_config(folder: Path, interactions: Path, items: Path, users: Path | None, given: dict[str, str]) -> str:
    import yaml

    from lorefuse.config import parse_config
    from lorefuse.data.guess import guess_data

    data = guess_data(interactions.resolve(), items.resolve(), users.resolve() if users else None, given)
    content = {"name": _name_of(folder), "data": data}
    parse_config(content)  # what is written can be used
    written = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, default_flow_style=None, width=110)
    return (
        "# Guessed from the columns' names: correct what is wrong. Every key: lorefuse config --reference\n"
        "# No model is named, so a race chooses one within `auto: {budget_s: 600}`.\n" + written
    )


def _name_of(folder: Path) -> str:
    """Return a name for runs: letters, digits and dashes of the folder's."""
    kept = "".join(sign if sign.isascii() and sign.isalnum() else "-" for sign in folder.resolve().name.lower())
    return kept.strip("-") or "my-shop"


def _write(folder: Path, text: str) -> None:
    from lorefuse.core.atomic import atomic_file

    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / ".gitignore").exists():
            (folder / ".gitignore").write_text(_IGNORED, "utf-8")
        with atomic_file(folder / CONFIG_FILE) as draft_path:
            draft_path.write_text(text, "utf-8")
    except OSError as error:
        raise UsageError(f"{folder} cannot be written.", got=str(error), fix="name another folder") from None
