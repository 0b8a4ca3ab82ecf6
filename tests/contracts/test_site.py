"""The pages: their reference is what the code says, every link holds, and the README stays short."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import get_args

import pytest
import yaml

from lorefuse.config import parse_config
from lorefuse.config.candidates import NamedView
from lorefuse.models.build import FAMILIES
from tests.helpers.module_file import module_of
from tests.helpers.shop import PROJECT_PATH

README = (PROJECT_PATH / "README.md").read_text("utf-8")
DRAWINGS = module_of(PROJECT_PATH / "docs" / "drawings.py")
REFERENCE = module_of(PROJECT_PATH / "docs" / "reference.py").pages()


@pytest.mark.parametrize("name", REFERENCE)
def test_reference_is_what_the_code_says(name: str) -> None:
    written = (PROJECT_PATH / "docs" / "reference" / name).read_text("utf-8")
    assert written == REFERENCE[name], "make docs writes it anew"


def test_each_design_has_its_verdict_and_its_section() -> None:
    text = (PROJECT_PATH / "docs" / "experiments.md").read_text("utf-8")
    rows = [line for line in text.split("## 1. ")[0].splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 30
    for row in rows:
        cells = [cell.strip() for cell in row.strip("|").split(" | ")]
        assert len(cells) == 5, row
        assert all(cells), row
        assert re.fullmatch(r"\[(\d+)\]\(#\1-[\w-]+\)", cells[4]), row


def test_every_model_has_a_page_whose_recipe_is_valid() -> None:
    pages = {path.stem: path.read_text("utf-8") for path in (PROJECT_PATH / "docs" / "models").glob("*.md")}
    views = set(get_args(NamedView)) - {"graph_content", "asked"}  # on the page of content; no recommender by itself
    assert set(pages) == set(FAMILIES) | views
    for name, text in pages.items():
        (recipe,) = re.findall(r"```yaml\n(.*?)```", text, flags=re.S)
        config = parse_config(yaml.safe_load(recipe))
        assert config.model.family == name or config.candidates.views == (name,)


def test_figures_of_the_model_pages_are_measured_ones() -> None:
    measured = (PROJECT_PATH / "docs" / "experiments.md", *(PROJECT_PATH / "benchmarks" / "results").glob("*.md"))
    known = set(_figures("".join(path.read_text("utf-8") for path in measured)))
    for path in (PROJECT_PATH / "docs" / "models.md", *(PROJECT_PATH / "docs" / "models").glob("*.md")):
        assert set(_figures(path.read_text("utf-8"))) <= known, path.name


def _figures(text: str) -> list[str]:
    return re.findall(r"(?<![\d:])\.\d{4}\b", text.replace("0.", "."))


def test_readme_is_two_screens_with_two_pictures() -> None:
    assert len(README.split()) <= 900
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", README)
    assert len(pictures) == 2
    for picture in pictures:
        assert 0 < (PROJECT_PATH / picture).stat().st_size < 300_000


@pytest.mark.parametrize("path", sorted((PROJECT_PATH / "docs/images").glob("*.mmd")), ids=lambda path: path.stem)
def test_drawings_are_of_their_sources(path: Path) -> None:
    drawn = path.with_suffix(".svg").read_text("utf-8")
    assert DRAWINGS.source_digest(path) in drawn, "docs/drawings.py draws it anew"
    assert "<script" not in drawn


@pytest.mark.slow
def test_site_builds_with_every_link(tmp_path: Path) -> None:
    command = PROJECT_PATH / ".venv-docs" / "bin" / "mkdocs"
    if not command.exists():
        pytest.skip("no environment for the site: make docs")
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    build = [str(command), "build", "--strict", "-d", str(tmp_path / "site")]
    done = subprocess.run(build, cwd=PROJECT_PATH, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for page in ("index.html", "tutorial.html", "reference/config.html", "tutorials/own_shop.html"):
        assert (tmp_path / "site" / page).is_file()
