"""Where the project's own folders stand: in a checkout, or as the installed package carries them."""

from __future__ import annotations

from pathlib import Path

from lorefuse.core.errors import UsageError

MARKS = {
    "components": "base.py",
    "pipelines": "training.py",
    "feature_repo": "rec_views.py",
    "serving": "model_repository",
}
"""Folder → what is in ours: somebody's project may have a folder of the same name."""
CARRIED_PATH = Path(__file__).parents[1] / "_project"
"""What a wheel holds of them; in a checkout they stand beside the package."""


def folder_of(name: str, project_path: Path) -> Path:
    """Return a folder of the project: the user's own, else the one that came with the package.

    Args:
        name: ``components``, ``pipelines``, ``feature_repo`` or ``serving``.
        project_path: The user's project.

    Raises:
        UsageError: There is none: the package is not whole.
    """
    for path in (project_path, CARRIED_PATH, CARRIED_PATH.parents[1]):
        if (path / name / MARKS[name]).exists():
            return path / name
    raise UsageError(
        f"There is no {name}/.",
        expected=f"{name}/{MARKS[name]} in {project_path} or in {CARRIED_PATH}",
        fix="install the package anew, or set LOREFUSE_PROJECT to a checkout",
    )
