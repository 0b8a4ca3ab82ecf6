"""The notebooks of docs/tutorials/ run from top to bottom as a reader runs them, and say what their words promise."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest

from lorefuse.deploy.ports import HOST
from tests.helpers.module_file import module_of
from tests.helpers.shop import PROJECT_PATH, grpc_port, no_serving

NOTEBOOKS = module_of(PROJECT_PATH / "docs" / "notebooks.py")
FOLDER_PATH = PROJECT_PATH / "docs" / "tutorials"
MAX_BYTES = 200_000


def said(name: str, folder_path: Path) -> str:
    """Run a notebook in an empty folder and return what its cells printed."""
    return str(NOTEBOOKS.text_of(NOTEBOOKS.run(name, folder_path, f"{HOST}:{grpc_port()}")))


def test_every_notebook_is_known() -> None:
    assert {path.stem for path in FOLDER_PATH.glob("*.ipynb")} == set(NOTEBOOKS.NAMES)


@pytest.mark.parametrize("name", NOTEBOOKS.NAMES)
def test_stored_outputs_are_whole_and_of_no_machine(name: str) -> None:
    path = FOLDER_PATH / f"{name}.ipynb"
    text = path.read_text("utf-8")
    assert len(text.encode()) < MAX_BYTES
    assert not re.search(r"/(?:tmp|home|root|work|Users)/", text)
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1)), "docs/notebooks.py runs it anew"
    assert not [one for cell in cells for one in cell.outputs if one.output_type == "error"]


@pytest.mark.slow
@pytest.mark.triton
@no_serving
def test_movielens(tmp_path: Path) -> None:
    text = said("movielens", tmp_path)
    assert "'interactions': 100000" in text
    assert re.search(r"deploy +built .*promoted True", text)
    assert re.search(r"^auc_cold +0\.\d+ +0\.\d+$", text, re.MULTILINE)
    assert "│ popularity" in text
    assert len(re.findall(r"^0\.\d{4}  \S", text, re.MULTILINE)) == 10
    assert re.search(r"score 0\.\d+: rank [\d,]+ of 1,682 for user 42", text)
    assert re.search(r"Triton +stopped", text)


@pytest.mark.slow
@pytest.mark.triton
@no_serving
def test_own_shop(tmp_path: Path) -> None:
    text = said("own_shop", tmp_path)
    for reason in ("value is not a finite number", "unknown item id", "empty id", "timestamp cannot be read"):
        assert reason in text
    assert "item_text: [name, description]" in text
    assert len(re.findall(r"^0\.\d{4}  \S.* (?:garden|kitchen|music|sport)$", text, re.MULTILINE)) == 10
    assert "no column 'colour'" in text
    assert "version 2 is champion: 2 new items, 102 in all" in text
    assert re.search(r"Giant Ukulele.* version 2$", text, re.MULTILINE)
    assert re.search(r"Triton +stopped", text)


@pytest.mark.slow
def test_own_encoder_and_model(tmp_path: Path) -> None:
    text = said("own_encoder_and_model", tmp_path)
    assert "(3, 64)" in text
    figures = dict(re.findall(r"^(ours|ours, no knowledge|DeepFM|DeepFM, no knowledge) +(0\.\d+) ", text, re.MULTILINE))
    assert len(figures) == 4
    assert min(map(float, figures.values())) > 0.7
    assert "does not match any of the expected tags" in text
