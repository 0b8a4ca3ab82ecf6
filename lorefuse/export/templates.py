"""Copies of `serving/model_repository`: the code of the Python models."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from lorefuse.core.atomic import sha256_file, sha256_json
from lorefuse.core.errors import UsageError
from lorefuse.core.settings import settings
from lorefuse.lists import two_stage


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
        for file in _files(part):
            shutil.copyfile(file, path / file.name)
    # A plain file of this name keeps Triton's Python stub, which heeds no PYTHONDONTWRITEBYTECODE, from writing
    # bytecode into the version folder: the next load would take it for a changed model.
    (path / "__pycache__").touch()


def templates_digest() -> str:
    """Return one hex sha256 over the code of all Python models: a version deployed with other code is deployed again.

    Raises:
        UsageError: There are no `serving/` templates in the project.
    """
    digests = {f"{file.parents[1].name}/{file.name}": sha256_file(file) for file in _files("*")}
    return sha256_json({**digests, "two_stage.py": sha256_file(Path(two_stage.__file__))})


def _files(name: str) -> list[Path]:
    templates_path = settings().folder("serving") / "model_repository"
    files = sorted(templates_path.glob(f"{name}/1/*.py"))
    if not files:
        raise UsageError(
            f"There are no serving templates in {templates_path / name / '1'}.",
            fix="install the package anew, or set LOREFUSE_PROJECT to a checkout",
        )
    return files


def link_or_copy(source_path: Path, target_path: Path) -> None:
    """Let two version folders hold one file: a link where the file system can, else a copy."""
    try:
        os.link(source_path, target_path)
    except OSError:  # another file system
        shutil.copyfile(source_path, target_path)
