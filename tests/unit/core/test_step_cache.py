"""Steps are reused when nothing changed, rebuilt when something did, and never half there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lorefuse.core.errors import ArtifactError
from lorefuse.core.step_cache import StepResult, origin, read_digest, reuse_or_build


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LOREFUSE_HOME", str(tmp_path / "home"))
    return tmp_path


def step(config: Any = 1, inputs: dict[str, Path] | None = None, text: str = "x") -> StepResult:
    def build(out_path: Path) -> dict[str, Any]:
        (out_path / "file.txt").write_text(text)
        return {"num_rows": len(text)}

    return reuse_or_build("demo", config=config, inputs=inputs or {}, rooms=(), build=build)


def test_second_time_is_reused_with_its_summary() -> None:
    first, second = step(), step()
    assert (first.reused, second.reused) == (False, True)
    assert first.digest == second.digest
    assert second.summary == {"num_rows": 1}


def test_another_config_or_input_builds_again(home: Path) -> None:
    (home / "in").mkdir()
    (home / "in/a").write_text("1")
    step()
    assert not step(config=2).reused
    assert not step(inputs={"in": home / "in"}).reused
    assert step(inputs={"in": home / "in"}).reused
    (home / "in/a").write_text("2")
    assert not step(inputs={"in": home / "in"}).reused


def test_damaged_step_is_built_again() -> None:
    (step().path / "file.txt").write_text("tampered")
    again = step()
    assert not again.reused
    assert (again.path / "file.txt").read_text() == "x"


def test_failing_build_leaves_nothing(home: Path) -> None:
    def build(out_path: Path) -> None:
        (out_path / "half").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reuse_or_build("demo", config=0, inputs={}, rooms=(), build=build)
    assert list((home / "home/cache/steps/demo").iterdir()) == []


def test_full_disk_is_one_clear_error(home: Path) -> None:
    def build(_: Path) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(ArtifactError, match=r"No space left.*\n.*free space"):
        reuse_or_build("demo", config=0, inputs={}, rooms=(), build=build)


def test_published_copy_keeps_digest_and_knows_its_origin(home: Path) -> None:
    result = step()
    result.publish(home / "run/artifact")
    assert read_digest(home / "run/artifact") == result.digest
    assert origin(home / "run/artifact") == result.path
    (result.path / "file.txt").unlink()
    (result.path / ".step.json").unlink()
    assert origin(home / "run/artifact") == home / "run/artifact"
