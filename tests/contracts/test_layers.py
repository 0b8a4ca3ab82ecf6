"""Who may import whom: the library knows no pipeline, its rooms know only earlier rooms, the client is light."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.shop import PROJECT_PATH

LIBRARY_PATH = PROJECT_PATH / "lorefuse"
FILES = sorted(LIBRARY_PATH.rglob("*.py"))
ROOMS = (
    "core", "config", "cpu", "training_set", "privacy", "data", "embedding", "enrich", "knowledge", "features",
    "feature_store", "models", "training", "tuning", "retrieval", "lists", "leaks", "auto", "export", "client",
    "report", "registry", "drift", "deploy", "erasure", "recovery", "steps", "study", "cli",
)  # fmt: skip
"""In the order of the flow."""
OUTSIDE = {"kfp", "components", "pipelines", "serving", "feature_repo", "tests"}


def _imports(path: Path, *, top_level: bool = False) -> Iterator[str]:
    tree = ast.parse(path.read_text("utf-8"))
    for node in ast.iter_child_nodes(tree) if top_level else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(LIBRARY_PATH).as_posix())
def test_library_knows_no_pipeline(path: Path) -> None:
    assert {name.split(".")[0] for name in _imports(path)} & OUTSIDE == set()


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_import_earlier_rooms_alone(room: str) -> None:
    later = ROOMS[ROOMS.index(room) + 1 :]
    found = {
        (path.relative_to(LIBRARY_PATH).as_posix(), name.split(".")[1])
        for path in sorted((LIBRARY_PATH / room).rglob("*.py"))
        for name in _imports(path)
        if name.startswith("lorefuse.") and name.split(".")[1] in later
    }
    assert found == set()


def test_every_folder_is_a_known_room_and_no_module_stands_loose() -> None:
    assert {path.name for path in LIBRARY_PATH.iterdir() if (path / "__init__.py").exists()} == set(ROOMS)
    assert {path.name for path in LIBRARY_PATH.glob("*.py")} == {"__init__.py", "__main__.py"}


@pytest.mark.parametrize("folder", ["lorefuse", "components", "pipelines", "serving/model_repository"])
def test_no_imports_go_in_a_circle(folder: str) -> None:
    """Not even those inside functions: a circle is two rooms, or two files, that are one."""
    files = sorted((PROJECT_PATH / folder).rglob("*.py"))
    names = {_module(path): path for path in files}
    graph: dict[Path, set[Path]] = {}
    for path in files:
        # A served model's files find each other by name, in one folder.
        near = {file.stem: file for file in path.parent.glob("*.py")} if folder.startswith("serving") else names
        graph[path] = set(_imported(path, near)) - {path}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        circle = [path.relative_to(PROJECT_PATH).as_posix() for path in error.args[1]]
        pytest.fail(f"imports in a circle: {circle}")


def _imported(path: Path, files: dict[str, Path]) -> Iterator[Path]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (files[alias.name] for alias in node.names if alias.name in files)
        elif isinstance(node, ast.ImportFrom):
            found = [files.get(f"{node.module}.{alias.name}", files.get(str(node.module))) for alias in node.names]
            yield from (file for file in found if file is not None)


def _module(path: Path) -> str:
    parts = path.relative_to(PROJECT_PATH).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("lorefuse.client", ("torch", "pandas", "mlflow", "kfp", "feast", "sklearn", "transformers")),
        ("lorefuse.config", ("torch", "pandas", "mlflow", "kfp", "numpy")),
        ("lorefuse.steps", ("torch", "pandas", "mlflow", "kfp", "feast")),
    ],
)
def test_import_is_light(module: str, heavy: tuple[str, ...]) -> None:
    code = f"import sys, {module}; print(*sorted({set(heavy)!r} & set(sys.modules)))"
    said = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT_PATH, capture_output=True, text=True, timeout=60, check=True
    )
    assert said.stdout.strip() == ""


def test_modules_are_called_by_their_names() -> None:
    """No one-letter aliases of our own modules."""
    short = {
        f"{path.relative_to(PROJECT_PATH)}: {alias.asname}"
        for folder in ("lorefuse", "components", "pipelines", "tests", "benchmarks")
        for path in sorted((PROJECT_PATH / folder).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.ImportFrom) and str(node.module).partition(".")[0] == "lorefuse"
        for alias in node.names
        if alias.asname and len(alias.asname) == 1
    }
    assert short == set()


def test_no_two_public_classes_have_one_name() -> None:
    places: dict[str, list[str]] = {}
    for folder in ("lorefuse", "pipelines", "serving/model_repository"):
        for path in sorted((PROJECT_PATH / folder).rglob("*.py")):
            for node in ast.parse(path.read_text("utf-8")).body:
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    places.setdefault(node.name, []).append(path.relative_to(PROJECT_PATH).as_posix())
    places.pop("TritonPythonModel")  # Triton wants this name of every model
    assert {name: found for name, found in places.items() if len(found) > 1} == {}
