"""What docs, presets and messages name exists: commands, options, targets, links, paths, modules, extras, settings."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.main import get_command

from lorefuse.cli.main import app
from lorefuse.config import PipelineConfig
from lorefuse.core.closure import module_of
from tests.helpers.module_file import module_of as module_at
from tests.helpers.shop import PROJECT_PATH

TOP = ("lorefuse", "components", "pipelines", "feature_repo", "serving", "infra", "benchmarks", "docs", "tests")
PROSE = [
    *(PROJECT_PATH / name for name in ("README.md", "CONTRIBUTING.md")),
    *sorted((PROJECT_PATH / "docs").rglob("*.md")),
    *sorted(path for name in TOP for path in (PROJECT_PATH / name).rglob("README.md")),
]
NOTEBOOKS = sorted((PROJECT_PATH / "docs" / "tutorials").glob("*.ipynb"))
HOOKS = module_at(PROJECT_PATH / "docs" / "hooks.py")
PRESETS = sorted((PROJECT_PATH / "pipelines").rglob("*.yaml"))
SOURCES = sorted(
    path for name in ("lorefuse", "components", "pipelines", "serving") for path in (PROJECT_PATH / name).rglob("*.py")
)
MAKEFILE = (PROJECT_PATH / "Makefile").read_text("utf-8")
TARGETS = set(re.findall(r"^([a-z-]+):", MAKEFILE, flags=re.M))
EXTRAS = set(tomllib.loads((PROJECT_PATH / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"])
COMMANDS = get_command(app).commands  # type: ignore[attr-defined]
_CODE = "\n".join(path.read_text("utf-8") for path in SOURCES)
TAGS = set(re.findall(r'"(lorefuse\.[a-z0-9_.]+)"', _CODE))
TAGS |= {f"lorefuse.{name}" for name in re.findall(r"\{\w*TAG\}([a-z0-9_.]+)", _CODE)}
PREFIXES = tuple(tag for tag in TAGS if tag.endswith(".") and tag != "lorefuse.")
"""Tags of MLflow look like modules; some are put together from their beginning."""
ENDINGS = ("py", "yaml", "json", "html", "db", "onnx", "safetensors", "parquet", "md", "npz", "jsonl", "log", "txt")
SETTINGS = set(re.findall(r"LOREFUSE_[A-Z_]+[A-Z]", "\n".join(path.read_text("utf-8") for path in SOURCES)))
_COMMAND = re.compile(r"(?<![\w./-])(?<!-n )(?<!from )lorefuse ([a-z][a-z-]*)((?: +(?!#|&&|\||>)[^\s`;,)]+)*)")
_MADE_BY_HAND = {"infra/.env"}
"""Files that docs tell the reader to make."""
_NO_TARGET = {"it", "its", "the", "room"}
"""Words that follow “make” in a message."""
_PATH = re.compile(rf"(?<![\w/.<>{{}}~-])(?:{'|'.join(TOP)})/[\w./*-]*[\w*/]")


def _messages(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the texts of a source file, docstrings too, with their lines."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


def _texts() -> Iterator[tuple[str, str]]:
    """Yield where and what: prose as it is, presets as they are, each message of a source."""
    for path in (*PROSE, *PRESETS):
        yield path.relative_to(PROJECT_PATH).as_posix(), path.read_text("utf-8")
    for path in NOTEBOOKS:
        yield f"{path.relative_to(PROJECT_PATH).as_posix()}.md", HOOKS.notebook_markdown(path)
    for path in SOURCES:
        for line, text in _messages(path):
            yield f"{path.relative_to(PROJECT_PATH)}:{line}", text


TEXTS = list(_texts())


def _code(text: str) -> Iterator[str]:
    """Yield the code in prose: blocks line by line, and spans."""
    for block in re.findall(r"```\w*\n(.*?)```", text, flags=re.S):
        yield from block.replace("\\\n", " ").splitlines()
    yield from re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.S))


def _commands() -> Iterator[tuple[str, str, str]]:
    for where, text in TEXTS:
        parts = _code(text) if where.endswith(".md") else [text]
        for part in parts:
            for name, rest in _COMMAND.findall(part):
                yield where, name, rest


def test_extras() -> None:
    named = {(where, name) for where, text in TEXTS for name in re.findall(r"lorefuse\[(\w+)\]", text)}
    assert named
    assert {(where, name) for where, name in named if name not in EXTRAS} == set()


def test_commands_and_their_options() -> None:
    wrong, num = [], 0
    for where, name, rest in _commands():
        command = COMMANDS.get(name)
        if command is None:
            # In a sentence the word is no command; in prose only code is looked at.
            if where.endswith(".md"):
                wrong.append((where, f"lorefuse {name}"))
            continue
        num += 1
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        wrong += [(where, f"lorefuse {name} {option}") for option in re.findall(r"(?<!\S)--[a-z-]+", rest)
                  if option not in {*known, "--help"}]  # fmt: skip
    assert num > 50
    assert wrong == []


def test_options_in_fixes_exist() -> None:
    """An option that a fix names without its command: some command has it."""
    known = {
        option for command in COMMANDS.values() for parameter in command.params
        for option in (*parameter.opts, *parameter.secondary_opts)
    }  # fmt: skip
    fixes = [
        (f"{path.relative_to(PROJECT_PATH)}:{node.lineno}", text)
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.keyword) and node.arg == "fix"
        for text in (part.value for part in ast.walk(node.value) if isinstance(part, ast.Constant))
        if isinstance(text, str) and "kubectl" not in text
    ]
    assert len(fixes) > 100
    wrong = {(where, option) for where, text in fixes for option in re.findall(r"(?<!\S)--[a-z][a-z-]+", text)}
    assert {(where, option) for where, option in wrong if option not in known} == set()


def test_commands_in_fixes_exist() -> None:
    """A fix that ends in a command: ``run again: lorefuse run``."""
    named = {(where, name) for where, text in TEXTS for name in re.findall(r": lorefuse ([a-z-]+)", text)}
    assert {(where, name) for where, name in named if name not in COMMANDS} == set()


def test_make_targets() -> None:
    named = {
        (where, name)
        for where, text in TEXTS
        for part in (_code(text) if where.endswith(".md") else [text])
        for name in re.findall(r"(?:^|(?<=[`:;] )|(?<=& ))make ([a-z][a-z-]+)", part)
    }
    assert {(where, name) for where, name in named if name not in TARGETS | _NO_TARGET} == set()


def test_paths() -> None:
    wrong = []
    for where, text in TEXTS:
        named = set(_PATH.findall(text)) - _MADE_BY_HAND
        wrong += [(where, name) for name in named if not any(PROJECT_PATH.glob(name.rstrip("/")))]
    assert wrong == []


@pytest.mark.parametrize("path", [*PROSE, *NOTEBOOKS], ids=lambda path: path.relative_to(PROJECT_PATH).as_posix())
def test_links(path: Path) -> None:
    text = HOOKS.notebook_markdown(path) if path in NOTEBOOKS else path.read_text("utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        file, _, heading = target.partition("#")
        if "://" in target:
            continue
        linked = (path.parent / file).resolve() if file else path
        assert linked.exists(), target
        if heading and linked.suffix == ".md":
            titles = re.findall(r"^#+ (.+)$", linked.read_text("utf-8"), flags=re.M)
            slugs = [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles]
            assert heading in slugs, target


def test_modules() -> None:
    """``lorefuse.room.module`` or a name in it, ``python -m module``."""
    wrong = []
    for where, text in TEXTS:
        for name in re.findall(r"(?<![\w./-])lorefuse(?:\.[a-z_]\w*)+(?:\.[A-Z]\w+)?(?![\w/-])", text):
            path, rest = module_of(name)
            assert path is not None
            if name in TAGS or name.startswith(PREFIXES):
                continue
            if rest and (len(rest) > 2 or not re.search(rf"\b{rest[0]}\b", path.read_text("utf-8"))):
                wrong.append((where, name))
        for name in re.findall(r"python -m ((?:lorefuse|pipelines|components|benchmarks)[\w.]*)", text):
            base = PROJECT_PATH.joinpath(*name.split("."))
            if not (base.with_suffix(".py").is_file() or (base / "__main__.py").is_file()):
                wrong.append((where, name))
    assert wrong == []


def test_settings() -> None:
    """A variable of ours that prose or a preset names is read somewhere, by the code or by a profile."""
    read = SETTINGS.union(*(re.findall(r"\$\{(LOREFUSE_\w+)\}", path.read_text("utf-8")) for path in PRESETS))
    for where, text in TEXTS:
        if where.endswith((".md", ".yaml")):
            assert set(re.findall(r"\bLOREFUSE_[A-Z_]+[A-Z]", text)) <= read, where


def test_keys_of_the_configuration() -> None:
    """``section.key`` in a message or in prose's code is a key there is."""
    sections = "|".join(PipelineConfig.model_fields)
    known = _keys(PipelineConfig.model_json_schema())
    wrong = []
    for where, text in TEXTS:
        prose = where.endswith(".md")
        for part in _code(text) if prose else [text]:
            for name in re.findall(rf"(?<![\w./`])(?:{sections})(?:\.[a-z_]+)+(?=:? |,|$|: )", part):
                last = name.rsplit(".", 1)[1]
                if last not in (*known, *ENDINGS) and not _is_module(name):
                    wrong.append((where, name))
    assert wrong == []


def _keys(schema: object) -> set[str]:
    if isinstance(schema, dict):
        inner = set().union(*map(_keys, schema.values())) if schema else set()
        return inner | set(schema.get("properties", {}))
    return set().union(*map(_keys, schema)) if isinstance(schema, list) and schema else set()


def _is_module(name: str) -> bool:
    path, rest = module_of(f"lorefuse.{name}")
    return path is not None and path.name != "__init__.py" and (not rest or rest[0] in path.read_text("utf-8"))


def test_typer_is_what_the_commands_come_from() -> None:
    assert isinstance(app, typer.Typer)
    assert {"run", "study", "recommend"} <= COMMANDS.keys()
