"""Write the pages of docs/reference/ from the code: every configuration key, every command, the Python client."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import typer.main

from lorefuse import client
from lorefuse.cli.main import SECTIONS, app
from lorefuse.config.explain import reference

FOLDER_PATH = Path(__file__).parent / "reference"


def pages() -> dict[str, str]:
    """Return the text of each page by its file name."""
    return {"config.md": reference(), "commands.md": _commands(), "client.md": _client()}


def _commands() -> str:
    lines = ["# Every command", "", "`lorefuse --help` lists them, `lorefuse COMMAND --help` explains one."]
    commands: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for title, names in SECTIONS.items():
        lines += ["", f"## {title}"]
        for name in names:
            lines += ["", f"### lorefuse {name}", "", _flowing(commands[name].help or "")]
            rows = [_row(one) for one in commands[name].params if one.name != "help"]
            if rows:
                lines += ["", "| option | meaning |", "|---|---|", *rows]
    return "\n".join(lines) + "\n"


def _row(parameter: Any) -> str:
    names = ", ".join(f"`{one}`" for one in (*parameter.opts, *parameter.secondary_opts)) or f"`{parameter.name}`"
    if parameter.param_type_name == "argument":
        names = f"`{parameter.name.upper()}`"
    needed = " Required." if parameter.required else ""
    return f"| {names} | {_flowing(parameter.help or '')}{needed} |"


def _client() -> str:
    lines = ["# The Python client", "", "```text", inspect.getdoc(client) or "", "```"]
    for name in client.__all__:
        thing = getattr(client, name)
        lines += ["", f"## {name}", "", "```text", f"{name}{_signature(thing)}", "", inspect.getdoc(thing) or "", "```"]
        for method, function in vars(thing).items() if inspect.isclass(thing) else ():
            if not method.startswith("_") and inspect.isfunction(function):
                shown = f"{method}{_signature(function)}"
                lines += ["", f"### {name}.{method}", "", "```text", shown, "", inspect.getdoc(function) or "", "```"]
    return "\n".join(lines) + "\n"


def _signature(thing: Any) -> str:
    try:
        return str(inspect.signature(thing)).replace("'", "")
    except ValueError:
        return ""


def _flowing(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


if __name__ == "__main__":
    FOLDER_PATH.mkdir(exist_ok=True)
    for file_name, content in pages().items():
        (FOLDER_PATH / file_name).write_text(content, "utf-8")
