"""Files of a version that is about to be deployed anew under its own number, kept until the new ones have proved fit.

A number is replaced where a registry was begun anew, or where an upgrade of Lorefuse brings other serving code. The
files wait beside the model repository, as links where the file system can: Triton must not see them.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from lorefuse.core.atomic import atomic_folder
from lorefuse.export.served import ALL_MODELS
from lorefuse.export.signature import RECOMMEND
from lorefuse.export.templates import link_or_copy

REPLACED_FOLDER = "replaced"


def set_aside(repository_path: Path, version: int) -> None:
    """Keep what a version consists of now; what was kept of another is forgotten.

    What is kept of this very version stays: its replacement was cut short before it had proved fit.
    """
    names = [name for name in ALL_MODELS if (repository_path / name / str(version)).is_dir()]
    if not names:
        forget(repository_path)
    if not names or _keeps(repository_path, version):
        return
    with atomic_folder(_folder(repository_path)) as draft_path:
        for name in names:
            _link(repository_path / name / str(version), draft_path / name / str(version))


def bring_back(repository_path: Path, version: int) -> bool:
    """Put the files that were kept in place of those that are there; False where none of this version were."""
    if not _keeps(repository_path, version):
        return False
    for name in ALL_MODELS:
        source_path = _folder(repository_path) / name / str(version)
        target_path = repository_path / name / str(version)
        if source_path.is_dir():
            with atomic_folder(target_path) as draft_path:
                _link(source_path, draft_path)
                draft_path.chmod(0o755)
        else:
            shutil.rmtree(target_path, ignore_errors=True)
    forget(repository_path)
    return True


def forget(repository_path: Path) -> None:
    """Remove what was kept: what stands there has proved fit."""
    shutil.rmtree(_folder(repository_path), ignore_errors=True)


def _keeps(repository_path: Path, version: int) -> bool:
    return (_folder(repository_path) / RECOMMEND / str(version)).is_dir()


def _folder(repository_path: Path) -> Path:
    return repository_path.parent / REPLACED_FOLDER


def _link(source_path: Path, target_path: Path) -> None:
    target_path.mkdir(parents=True, exist_ok=True)
    for file in source_path.iterdir():
        link_or_copy(file, target_path / file.name)
