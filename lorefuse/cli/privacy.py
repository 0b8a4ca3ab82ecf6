"""Commands about people: forget one, export one person's data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lorefuse.core.terminal import plain

if TYPE_CHECKING:
    from lorefuse.erasure.plan import Plan

UserOption = Annotated[str, typer.Option("--user", help="Id as in your data, or a pseudonym.")]
AlsoOption = Annotated[
    list[Path] | None, typer.Option(help="Folder or file outside the home to look through as well; repeatable.")
]


def register_privacy_commands(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command(name="forget")(forget)
    app.command(name="export-user")(export_user)


def forget(
    user: UserOption,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    also: AlsoOption = None,
) -> None:
    """Remove a person from everything below the home; versions trained on them get a deadline. Safe to repeat."""
    from lorefuse.core.log import short_log
    from lorefuse.erasure.forget import forget as erase
    from lorefuse.erasure.plan import plan

    paths = _existing(also)
    if dry_run:
        with short_log():
            found = plan(user, paths)
        _show(found)
        return
    with short_log():
        receipt_path, content = erase(user, paths)
    typer.echo(f"{len(content['done'])} places changed or deleted; receipt: {receipt_path}")
    for entry in content["retrain"]:
        typer.echo(
            f"{entry['model']} version {entry['version']} was trained on them: train again (lorefuse run) before "
            f"{entry['deadline']}; after that it is not promoted any more"
        )
    for source in content["sources"]:
        typer.echo(plain(f"not ours to edit: {source} (a later run leaves their rows out)"))
    if content["other_keys"]:
        keys = ", ".join(content["other_keys"])
        typer.echo(f"People are known here under the keys {keys} too: forget them once more with each of those.")
    if not content["texts_searched"]:
        typer.echo("The id is too short to be told from other words: logs and pages were not searched for it.")
    for place in content["remaining"]:
        typer.echo(plain(f"still there, {place['count']} times: {place['where']} ({place['what']})"), err=True)
    if content["remaining"]:
        raise typer.Exit(1)


def export_user(
    user: UserOption,
    out: Annotated[Path | None, typer.Option(help="File to write; default: print it.")] = None,
    also: AlsoOption = None,
) -> None:
    """Write all data about one person to one JSON file."""
    from lorefuse.core.atomic import write_json
    from lorefuse.core.log import short_log
    from lorefuse.erasure.export import export_user as export

    with short_log():
        content = export(user, _existing(also))
    if out is None:
        typer.echo(json.dumps(content, indent=2, default=str))
        return
    write_json(out, content)
    typer.echo(f"{len(content['held'])} files hold them: {out}")


def _existing(paths: list[Path] | None) -> list[Path]:
    from lorefuse.core.errors import UsageError

    missing = [str(path) for path in paths or () if not path.exists()]
    if missing:
        raise UsageError("There is nothing to look through.", expected="a folder or file", got=", ".join(missing))
    return [path.resolve() for path in paths or ()]


def _show(found: Plan) -> None:
    said = [f"would be deleted: {path}" for path in found.dropped]
    said += [f"would change ({place.count}, {place.holder.kind}): {place.path}" for place in found.loose]
    said += [f"was trained on them: {version.model} version {version.number}" for version in found.versions]
    said += [f"not ours to edit: {source}" for source in found.sources]
    for line in said or ["Nothing here names them."]:
        typer.echo(plain(line))
