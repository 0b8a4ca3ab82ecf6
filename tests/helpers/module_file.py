"""Code that belongs to no package: what runs inside Triton, in images and on clusters."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

SERVED_PATH = Path(__file__).parents[2] / "serving" / "model_repository"


def module_of(path: Path) -> ModuleType:
    """Import a file as a module of its name, which is not entered into `sys.modules`."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def served_module(model: str, name: str) -> ModuleType:
    """Import a file of one of the served models as Triton's stub does: it finds its neighbours, and nothing of ours.

    Example: ``served_module("features", "online_store")``. The neighbours are not left in `sys.modules`.
    """
    folder_path = SERVED_PATH / model / "1"
    before = set(sys.modules)
    sys.path.insert(0, str(folder_path))
    try:
        return module_of(folder_path / f"{name}.py")
    finally:
        sys.path.remove(str(folder_path))
        for file in folder_path.glob("*.py"):
            if file.stem not in before:
                sys.modules.pop(file.stem, None)
