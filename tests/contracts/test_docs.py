"""README and first pages tell the truth: their commands, targets, presets and code exist and work as written."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from lorefuse.cli.main import app
from lorefuse.config import parse_config

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
PAGES = ("install", "tutorial", "own-data", "knowledge", "measured", "settings", "layout")
TEXT = "\n".join([README, *((ROOT / "docs" / f"{name}.md").read_text("utf-8") for name in PAGES)])


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, flags=re.S)


def test_every_make_target_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), flags=re.M))
    named = set(re.findall(r"`?make ([a-z][a-z-]+)", TEXT)) - {"it"}
    assert named
    assert named <= targets


def test_make_help_explains_every_target() -> None:
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in ("demo", "test", "lint", "bench", "up", "down", "ui", "compile", "lock", "clean"):
        assert re.search(rf"make {target}\s+\S", shown), target


def test_every_command_and_option_exists() -> None:
    commands = re.findall(r"^lorefuse ([a-z-]+)([^#\n]*)", "\n".join(blocks("console")), flags=re.M)
    assert {name for name, _ in commands} >= {"run", "recommend", "score", "compile", "status"}
    for name, rest in commands:
        result = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "200"})
        assert result.exit_code == 0, name
        for option in re.findall(r"(?<!\w)--?[a-z][a-z-]*", re.sub(r'"[^"]*"', "", rest)):
            assert option in result.output, (name, option)


@pytest.mark.parametrize("text", blocks("yaml"))
def test_presets_in_the_readme_validate(text: str) -> None:
    parse_config(yaml.safe_load(text))


@pytest.mark.parametrize("path", sorted((ROOT / "pipelines/configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_presets_of_the_project_validate(path: Path) -> None:
    parse_config(yaml.safe_load(path.read_text("utf-8")))


@pytest.mark.parametrize("text", blocks("python"))
def test_python_in_the_readme_compiles_and_its_names_exist(text: str) -> None:
    compile(text, "README.md", "exec")
    for module, names in re.findall(r"^from (\S+) import (.+)$", text, flags=re.M):
        for name in names.split(","):
            assert hasattr(__import__(module, fromlist=["x"]), name.strip())


def test_the_tree_names_what_is_there() -> None:
    tree = (ROOT / "docs" / "layout.md").read_text("utf-8")
    for name in re.findall(r"^([a-z_]+)/ ", tree, flags=re.M):
        assert (ROOT / name).is_dir(), name


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if "://" not in target:
            assert (ROOT / target).exists(), target
