"""Code that belongs to no package: what runs inside Triton, in images and on clusters."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

SERVED_PATH = Path(__file__).parents[1] / "serving" / "model_repository"


def module_of(path: Path) -> ModuleType:
    """Import a file as a module of its name, which is not entered into `sys.modules`."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def served_module(model: str, name: str) -> ModuleType:
    """Import a file of one of the served models, e.g. ``served_module("features", "online_store")``."""
    return module_of(SERVED_PATH / model / "1" / f"{name}.py")
