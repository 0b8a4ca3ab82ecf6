"""Components are thin: a file holds one function of its name that calls the step of its name."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from lorefuse.config import load_config
from lorefuse.data.dataset import Dataset
from lorefuse.steps import dump_config
from tests.helpers.shop import NUM_INTERACTIONS, PROJECT_PATH, write_preset, write_shop

FILES = sorted(p for p in (PROJECT_PATH / "components").glob("*.py") if p.stem not in ("__init__", "base"))
MOST_LINES = 45


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_file_holds_one_thin_function_of_its_name(path: Path) -> None:
    text = path.read_text("utf-8")
    functions = [node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    assert [function.name for function in functions] == [path.stem]
    (function,) = functions
    assert function.end_lineno is not None
    assert function.end_lineno - function.lineno + 1 < MOST_LINES
    assert ast.get_docstring(function)
    statements = [node for node in function.body if not isinstance(node, ast.Import | ast.ImportFrom)]
    assert len(statements) <= 6, "logic belongs into the library"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_component_calls_the_step_of_its_name(path: Path) -> None:
    calls = {
        node.func.attr
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "steps"
    }
    assert calls == {path.stem}


def test_every_component_is_in_a_pipeline() -> None:
    text = "".join(path.read_text("utf-8") for path in sorted((PROJECT_PATH / "pipelines").glob("*.py")))
    assert [path.stem for path in FILES if f"from components.{path.stem} import {path.stem}" not in text] == []


@pytest.mark.parametrize("name", [path.stem for path in FILES])
def test_component_installs_nothing(name: str) -> None:
    component = getattr(importlib.import_module(f"components.{name}"), name)
    container = component.component_spec.implementation.container
    assert "pip install" not in " ".join([*container.command, *container.args])


def test_ingest_and_split_run_on_files(tmp_path: Path) -> None:
    from components.ingest import ingest
    from components.split import split

    config = dump_config(load_config(write_shop(tmp_path / "shop")))
    dataset, parts = (SimpleNamespace(path=str(tmp_path / name)) for name in ("dataset", "parts"))
    ingest.python_func(config, dataset)
    assert len(Dataset.open(Path(dataset.path)).interactions()) == NUM_INTERACTIONS
    split.python_func(config, "global_time", dataset, parts)
    table = pd.read_parquet(Path(parts.path) / "split.parquet")
    assert len(table) == NUM_INTERACTIONS
    assert {"train", "validation", "test"} <= set(table["split"])


def test_a_users_mistake_ends_the_component_with_its_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from components.ingest import ingest

    write_shop(tmp_path / "shop")
    config = dump_config(load_config(write_preset(tmp_path / "shop", data__source__value="stars")))
    with pytest.raises(SystemExit) as ended:
        ingest.python_func(config, SimpleNamespace(path=str(tmp_path / "dataset")))
    assert ended.value.code == 2
    assert '"event": "error"' in capsys.readouterr().out
    assert not (tmp_path / "dataset").exists()
