"""The pages: their reference is what the code says, every link holds, and the README stays short."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.helpers.module_file import module_of
from tests.helpers.shop import PROJECT_PATH

README = (PROJECT_PATH / "README.md").read_text("utf-8")
DRAWINGS = module_of(PROJECT_PATH / "docs" / "drawings.py")
REFERENCE = module_of(PROJECT_PATH / "docs" / "reference.py").pages()


@pytest.mark.parametrize("name", REFERENCE)
def test_reference_is_what_the_code_says(name: str) -> None:
    written = (PROJECT_PATH / "docs" / "reference" / name).read_text("utf-8")
    assert written == REFERENCE[name], "make docs writes it anew"


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
    build = [str(command), "build", "-q", "--strict", "-d", str(tmp_path / "site")]
    done = subprocess.run(build, cwd=PROJECT_PATH, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for page in ("index.html", "tutorial.html", "reference/config.html"):
        assert (tmp_path / "site" / page).is_file()
