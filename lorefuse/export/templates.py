"""Copies of `serving/model_repository`: the code of the Python models."""

from __future__ import annotations

import shutil
from pathlib import Path

from lorefuse.errors import UsageError
from lorefuse.settings import settings


def copy_template(name: str, path: Path) -> None:
    """Copy the code of a Python model into a version folder.

    Raises:
        UsageError: There are no `serving/` templates in the project.
    """
    template_path = settings().project_path / "serving" / "model_repository" / name / "1"
    files = sorted(template_path.glob("*.py"))
    if not files:
        raise UsageError(
            f"There are no serving templates in {template_path}.", fix="run inside a checkout, or set LOREFUSE_PROJECT"
        )
    for file in files:
        shutil.copyfile(file, path / file.name)
    # A plain file of this name keeps Triton's Python stub, which heeds no PYTHONDONTWRITEBYTECODE, from writing
    # bytecode into the version folder: the next load would take it for a changed model.
    (path / "__pycache__").touch()
