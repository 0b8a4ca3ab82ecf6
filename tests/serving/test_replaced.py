"""A version deployed anew under its own number: other content, other code, and what comes back where that fails."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from lorefuse.client import Client
from lorefuse.core.atomic import sha256_folder
from lorefuse.core.errors import DeployError
from lorefuse.core.settings import settings
from lorefuse.deploy.deploy import deploy, status
from lorefuse.deploy.supervisor import Supervisor
from lorefuse.export import version_files
from lorefuse.export.model_repository import REPLACED_FOLDER, ModelRepository
from tests.helpers.caller import Caller, reseal
from tests.helpers.synthetic_bundle import World


def test_other_serving_code_is_another_deployment(
    bundles: tuple[Path, Path], world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = ModelRepository(tmp_path / "repository")
    repository.add(bundles[0], world.store_path, 1)
    shutil.copytree(settings().project_path / "serving", tmp_path / "upgraded" / "serving")
    monkeypatch.setenv("LOREFUSE_PROJECT", str(tmp_path / "upgraded"))
    assert repository.add(bundles[0], world.store_path, 1)["reused"], "the same code elsewhere"
    with (tmp_path / "upgraded/serving/model_repository/answer/1/answers.py").open("a") as stream:
        stream.write("# of the next release\n")
    assert not repository.add(bundles[0], world.store_path, 1)["reused"]
    for name in ("answer", "direct"):
        assert (repository.path / name / "1" / "answers.py").read_text().endswith("# of the next release\n")
    assert repository.add(bundles[0], world.store_path, 1)["reused"]


def test_what_a_replacement_cut_short_left_is_not_what_comes_back(
    bundles: tuple[Path, Path], world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = ModelRepository(tmp_path / "repository")
    repository.add(bundles[0], world.store_path, 1)
    before = sha256_folder(repository.path)
    with monkeypatch.context() as cut:
        cut.setattr(version_files, "_write_features", lambda *_: (_ for _ in ()).throw(OSError("killed here")))
        with pytest.raises(OSError, match="killed here"):
            repository.add(bundles[1], world.store_path, 1)
    assert sha256_folder(repository.path) != before, "the ranker is the new one, the rest is of before"
    repository.add(bundles[1], world.store_path, 1)
    assert repository.bring_back(1)
    assert sha256_folder(repository.path) == before
    assert not repository.bring_back(1), "once"
    assert not repository.bring_back(2)


def test_the_number_of_another_registry_is_replaced(
    supervisor: Supervisor, bundles: tuple[Path, Path], world: World
) -> None:
    deploy(bundles[0], world.store_path, 1, supervisor=supervisor)
    before = Client(supervisor.url).recommend("u3")
    deploy(bundles[1], world.store_path, 1, supervisor=supervisor)
    after = Client(supervisor.url).recommend("u3")
    assert after.model_version == before.model_version == "1"
    assert after != before


def test_an_upgrade_reaches_the_version_that_answers(
    supervisor: Supervisor,
    bundles: tuple[Path, Path],
    world: World,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    deploy(bundles[0], world.store_path, 1, supervisor=supervisor)
    before = Client(supervisor.url).recommend("u3")
    shutil.copytree(settings().project_path / "serving", tmp_path / "upgraded" / "serving")
    with (tmp_path / "upgraded/serving/model_repository/answer/1/answers.py").open("a") as stream:
        stream.write("open('%s', 'w').close()\n" % (tmp_path / "the new code ran"))
    monkeypatch.setenv("LOREFUSE_PROJECT", str(tmp_path / "upgraded"))
    caller = Caller(supervisor.url)
    caller.start()
    report = deploy(bundles[0], world.store_path, 1, supervisor=supervisor)
    caller.finish()
    assert caller.errors == [], "Triton loads the new code beside the old"
    assert report["version"] == report["previous"] == 1
    assert (tmp_path / "the new code ran").exists()
    assert not (supervisor.serve_path / REPLACED_FOLDER).exists()
    assert Client(supervisor.url).recommend("u3") == before


@pytest.mark.parametrize("damage", ["code", "weights"])
def test_a_bad_replacement_of_the_version_that_answers_is_taken_back(
    supervisor: Supervisor,
    bundles: tuple[Path, Path],
    world: World,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    damage: str,
) -> None:
    deploy(bundles[0], world.store_path, 1, supervisor=supervisor)
    before = Client(supervisor.url).recommend("u3")
    bundle_path = shutil.copytree(bundles[0], tmp_path / "bundle")
    if damage == "code":
        shutil.copytree(settings().project_path / "serving", tmp_path / "upgraded" / "serving")
        with (tmp_path / "upgraded/serving/model_repository/direct/1/model.py").open("a") as stream:
            stream.write("raise RuntimeError('a release that does not work')\n")
        monkeypatch.setenv("LOREFUSE_PROJECT", str(tmp_path / "upgraded"))
    else:
        shutil.copyfile(bundles[1] / "catalogue_ranker.onnx", bundle_path / "catalogue_ranker.onnx")
        reseal(bundle_path, "catalogue_ranker.onnx")
    caller = Caller(supervisor.url)
    caller.start()
    with pytest.raises(DeployError, match="version 1 still answers, as it was before"):
        deploy(bundle_path, world.store_path, 1, supervisor=supervisor)
    caller.finish()
    assert caller.errors == []
    assert Client(supervisor.url).recommend("u3") == before
    supervisor.restart()
    assert Client(supervisor.url).recommend("u3") == before, "also from disk"
    monkeypatch.undo()
    assert status(supervisor)["serving"]
