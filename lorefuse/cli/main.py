"""The command line, put together. Heavy imports happen inside the commands: ``lorefuse --help`` answers at once."""

from __future__ import annotations

import re
import sys
import traceback
from datetime import UTC, datetime
from typing import Any

import typer
from typer.core import TyperGroup

from lorefuse.cli.cluster import register_cluster_commands
from lorefuse.cli.deploy import register_deploy_commands
from lorefuse.cli.pipelines import register_pipeline_commands
from lorefuse.cli.privacy import register_privacy_commands
from lorefuse.cli.project import register_project_commands
from lorefuse.cli.serving import register_serving_commands
from lorefuse.cli.study import register_study_commands
from lorefuse.core.errors import LorefuseError
from lorefuse.core.log import log_to_stderr
from lorefuse.core.terminal import plain

SECTIONS = {
    "Start": ("run", "init", "setup-serving", "doctor", "config"),
    "Data, models and study": (
        "study", "advise", "rank", "lists", "leaks", "tune", "train", "embed", "fine-tune", "enrich", "refresh",
        "backfill",
    ),
    "Serve": ("up", "down", "recommend", "score", "add-items", "ui"),
    "Registry and deployment": ("status", "promote", "rollback", "reconcile", "sign", "webhook"),
    "People's data, and safety": ("forget", "export-user", "backup", "restore"),
    "Cluster": ("compile", "submit", "result", "submit-training", "submit-tuning", "accounts"),
}  # fmt: skip
"""Commands in the order in which one meets them."""


class Grouped(TyperGroup):
    """A command line whose help shows its commands by what one wants to do."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write one section of commands after the other."""
        for title, names in SECTIONS.items():
            known = [(name, re.split("[:;.]", self.commands[name].help or "")[0]) for name in names]
            with formatter.section(title):
                formatter.write_dl(known)


app = typer.Typer(
    cls=Grouped,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Inject language-model knowledge into a recommender, prove whether it helped, and serve it with Triton.",
)
register_project_commands(app)
register_study_commands(app)
register_serving_commands(app)
register_deploy_commands(app)
register_pipeline_commands(app)
register_cluster_commands(app)
register_privacy_commands(app)


def main() -> None:
    """Run the command line: one clear message for an error, exit code 2 for the user's mistake and 1 for ours."""
    try:
        log_to_stderr()
        app()
    except LorefuseError as error:
        typer.echo(plain(str(error)), err=True)
        sys.exit(error.exit_code)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and not (error.name or "").startswith("lorefuse"):
            text = f"This command needs the package {error.name}, which is not installed."
            typer.echo(f"{text}\n  fix: pip install 'lorefuse[all]', or see what is missing: lorefuse doctor", err=True)
            sys.exit(2)
        typer.echo(_unexpected(error), err=True)
        sys.exit(1)


def _unexpected(error: Exception) -> str:
    """Keep where an error came from in the home, and return what is said of it."""
    said = f"Lorefuse failed where it should not have: {type(error).__name__}: {plain(str(error))[:300]}"
    # Without the message, which may name a person: what is kept in the home must be fit to be sent to others.
    lines = "".join([*traceback.format_tb(error.__traceback__), type(error).__name__, "\n"])
    try:
        from lorefuse.core.home import make_home
        from lorefuse.core.settings import settings

        home_path = settings().home_path
        make_home(home_path)
        path = home_path / f"crash-{datetime.now(UTC):%Y%m%d-%H%M%S}.log"
        path.write_text(lines, "utf-8")
    except (LorefuseError, OSError):
        return f"{said}\n{lines}"
    return f"{said}\n  fix: this is a fault of ours; please report it with {path}"
