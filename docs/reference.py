"""Write the pages of docs/reference/ from the code: keys of the configuration, commands, the client, Python."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import typer.main

from lorefuse import client
from lorefuse.cli.main import SECTIONS, app
from lorefuse.config.explain import reference

FOLDER_PATH = Path(__file__).parent / "reference"
ENTRY_POINTS = {
    "lorefuse.config": ("load_config", "parse_config", "load_deployment"),
    "lorefuse.steps": (),
    "lorefuse.data.dataset": ("Dataset",),
    "lorefuse.training_set.arrays": ("TrainingSet",),
    "lorefuse.embedding.finetune": ("fine_tune",),
    "lorefuse.models.build": ("build_ranker", "save_ranker", "load_ranker"),
    "lorefuse.training.train": ("train", "score_rows"),
    "lorefuse.tuning.study": ("tune",),
    "lorefuse.retrieval.recommender": ("Recommender",),
    "lorefuse.study.run": ("run_study",),
    "lorefuse.export.bundle": ("Bundle",),
    "lorefuse.registry.gate": ("gate",),
    "lorefuse.deploy.deploy": ("deploy", "status"),
    "lorefuse.deploy.reconcile": ("Reconciler",),
    "lorefuse.privacy.pseudonyms": ("Pseudonymizer",),
    "lorefuse.erasure.forget": ("forget",),
    "lorefuse.recovery.backup": ("back_up", "restore"),
}
"""Module → what one calls in it; nothing: every function in its `__all__`."""


def pages() -> dict[str, str]:
    """Return the text of each page by its file name."""
    return {"config.md": reference(), "commands.md": _commands(), "client.md": _client(), "python.md": _python()}


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
    return "\n".join([*lines, *_things(client, client.__all__)]) + "\n"


def _python() -> str:
    lines = ["# Python, by module", "", "What the commands and the pipelines call, with the docstrings of the code."]
    lines += ["The client has [a page of its own](client.md)."]
    for name, things in ENTRY_POINTS.items():
        module = importlib.import_module(name)
        functions = [one for one in getattr(module, "__all__", ()) if inspect.isfunction(getattr(module, one))]
        lines += ["", f"## {name}", "", _flowing((inspect.getdoc(module) or "").split("\n\n")[0])]
        lines += _things(module, things or functions, level=3)
    return "\n".join(lines) + "\n"


def _things(module: Any, names: Iterable[str], level: int = 2) -> list[str]:
    """Return a heading, the signature and the docstring of each thing, and of each public method of a class."""
    lines: list[str] = []
    for name in names:
        thing = getattr(module, name)
        lines += _entry(name, f"{name}{_signature(thing)}", thing, level)
        for method, function in vars(thing).items() if inspect.isclass(thing) else ():
            if not method.startswith("_") and inspect.isfunction(function):
                lines += _entry(f"{name}.{method}", f"{method}{_signature(function)}", function, level + 1)
    return lines


def _entry(title: str, shown: str, thing: Any, level: int) -> list[str]:
    return ["", f"{'#' * level} {title}", "", "```text", shown, "", inspect.getdoc(thing) or "", "```"]


def _signature(thing: Any) -> str:
    try:
        return re.sub(r"(: |-> )'([^']*)'", r"\1\2", str(inspect.signature(thing)))  # annotations are texts
    except ValueError:
        return ""


def _flowing(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


if __name__ == "__main__":
    FOLDER_PATH.mkdir(exist_ok=True)
    for file_name, content in pages().items():
        (FOLDER_PATH / file_name).write_text(content, "utf-8")
