"""The project's folders: the user's own, else what comes with the package."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorefuse.core import project
from lorefuse.core.errors import UsageError
from lorefuse.core.project import MARKS, folder_of
from tests.helpers.shop import PROJECT_PATH


@pytest.mark.parametrize("name", MARKS)
def test_a_project_without_them_takes_those_of_the_package(name: str, tmp_path: Path) -> None:
    assert folder_of(name, tmp_path) == PROJECT_PATH / name


@pytest.mark.parametrize("name", MARKS)
def test_a_folder_of_that_name_that_is_not_ours_is_left_alone(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "Button.tsx").touch()
    assert folder_of(name, tmp_path) == PROJECT_PATH / name


def test_a_projects_own_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "feature_repo").mkdir()
    (tmp_path / "feature_repo" / "rec_views.py").touch()
    assert folder_of("feature_repo", tmp_path) == tmp_path / "feature_repo"


def test_a_wheel_carries_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    carried_path = tmp_path / "site-packages" / "lorefuse" / "_project"
    (carried_path / "serving" / "model_repository").mkdir(parents=True)
    monkeypatch.setattr(project, "CARRIED_PATH", carried_path)
    assert folder_of("serving", tmp_path) == carried_path / "serving"
    with pytest.raises(UsageError, match=r"no pipelines/[\s\S]*install the package anew"):
        folder_of("pipelines", tmp_path)
