"""Copies of `serving/model_repository`: the code of the Python models."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from lorefuse.errors import UsageError
from lorefuse.settings import settings


def copy_template(name: str, path: Path, *parts: str) -> None:
    """Copy the code of a Python model into a version folder.

    Args:
        name: The model.
        path: The version folder.
        parts: Models whose files it uses; theirs that are called as one of its own stay away.

    Raises:
        UsageError: There are no `serving/` templates in the project.
    """
    for part in (*parts, name):
        template_path = settings().project_path / "serving" / "model_repository" / part / "1"
        files = sorted(template_path.glob("*.py"))
        if not files:
            raise UsageError(
                f"There are no serving templates in {template_path}.",
                fix="run inside a checkout, or set LOREFUSE_PROJECT",
            )
        for file in files:
            shutil.copyfile(file, path / file.name)
    # A plain file of this name keeps Triton's Python stub, which heeds no PYTHONDONTWRITEBYTECODE, from writing
    # bytecode into the version folder: the next load would take it for a changed model.
    (path / "__pycache__").touch()


def link_or_copy(source_path: Path, target_path: Path) -> None:
    """Let two version folders hold one file: a link where the file system can, else a copy."""
    try:
        os.link(source_path, target_path)
    except OSError:  # another file system
        shutil.copyfile(source_path, target_path)
