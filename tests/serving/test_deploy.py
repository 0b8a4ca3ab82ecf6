"""Deployments with a real Triton: switches, failures, restarts, and a stub that dies."""

from __future__ import annotations

import dataclasses
import shutil
import signal
import time
from pathlib import Path

import psutil
import pytest

from lorefuse.client import Client
from lorefuse.core.errors import ArtifactError, DeployError, UnreachableError, UsageError
from lorefuse.deploy.control import Control
from lorefuse.deploy.deploy import deploy, status, up
from lorefuse.deploy.ports import Ports
from lorefuse.deploy.supervisor import Supervisor
from lorefuse.deploy.verify import verify_ready
from lorefuse.export.config_pbtxt import CONFIG_FILE, ensemble_config, write_config
from lorefuse.export.model_repository import KEPT_VERSIONS
from lorefuse.models.ranker import Ranker
from tests.helpers.caller import Caller, reseal
from tests.helpers.synthetic_bundle import World, grow, make_bundle

OTHERS = {"catalogue_ranker", "features", "ranker", "recommend"}


def test_versions_switch_under_load_without_an_error_or_a_mixed_answer(
    supervisor: Supervisor, bundles: tuple[Path, Path], world: World
) -> None:
    deploy(bundles[0], world.store_path, 1, supervisor=supervisor)
    caller = Caller(supervisor.url)
    caller.start()
    for version, bundle_path in ((2, bundles[1]), (3, bundles[0]), (2, bundles[1])):
        report = deploy(bundle_path, world.store_path, version, supervisor=supervisor)
        assert report["side_by_side"]
        assert report["adopted"]
        time.sleep(0.2)
    caller.finish()
    assert caller.errors == []
    changes = [a for a, b in zip(caller.versions, [*caller.versions[1:], ""], strict=True) if a != b]
    assert changes == ["1", "2", "3", "2"]
    assert all(len(answers) == 1 for answers in caller.answers.values())
    assert caller.answers["1"] == caller.answers["3"] != caller.answers["2"]
    loaded = Control(supervisor.url, supervisor.admin_key).versions()
    assert loaded.pop("recommend") == [2]
    assert {tuple(numbers) for numbers in loaded.values()} == {(2, 3)}, "the version before stays for an instant return"


@pytest.mark.parametrize("damage", ["no graph", "other weights"])
def test_a_bad_version_leaves_the_old_one_serving(
    supervisor: Supervisor, bundles: tuple[Path, Path], world: World, tmp_path: Path, damage: str
) -> None:
    deploy(bundles[0], world.store_path, 1, supervisor=supervisor)
    before = Client(supervisor.url).recommend("u3")
    bad_path = shutil.copytree(bundles[1], tmp_path / "bad")
    if damage == "no graph":
        (bad_path / "ranker.onnx").write_bytes((bad_path / "ranker.onnx").read_bytes()[:300])
    else:  # a whole graph, but not the one the references were made with
        shutil.copyfile(bundles[0] / "ranker.onnx", bad_path / "ranker.onnx")
    reseal(bad_path, "ranker.onnx")
    caller = Caller(supervisor.url)
    caller.start()
    with pytest.raises(DeployError, match="version 1 still answers") as caught:
        deploy(bad_path, world.store_path, 2, supervisor=supervisor)
    caller.finish()
    assert caller.errors == []
    assert "Traceback" not in str(caught.value)
    assert Client(supervisor.url).recommend("u3") == before
    assert supervisor.repository.active == 1
    assert not list(supervisor.repository.path.glob("*/2"))
    facts = status(supervisor)
    assert facts["serving"], facts
    assert deploy(bundles[1], world.store_path, 2, supervisor=supervisor)["version"] == 2


def test_a_bundle_that_is_not_whole_touches_nothing(
    supervisor: Supervisor, bundles: tuple[Path, Path], world: World, tmp_path: Path
) -> None:
    bad_path = shutil.copytree(bundles[1], tmp_path / "bad")
    (bad_path / "ranker.onnx").unlink()
    with pytest.raises(ArtifactError, match=r"ranker\.onnx"):
        deploy(bad_path, world.store_path, 1, supervisor=supervisor)
    assert supervisor.process() is None
    assert not supervisor.repository.path.exists()


def test_a_failed_first_deployment_leaves_nothing_and_the_next_one_works(
    supervisor: Supervisor, bundles: tuple[Path, Path], world: World, tmp_path: Path
) -> None:
    bad_path = shutil.copytree(bundles[0], tmp_path / "bad")
    (bad_path / "catalogue_ranker.onnx").write_bytes(b"not a graph")
    reseal(bad_path, "catalogue_ranker.onnx")
    with pytest.raises(DeployError, match="nothing is served"):
        deploy(bad_path, world.store_path, 1, supervisor=supervisor)
    assert supervisor.repository.active is None
    with pytest.raises(UnreachableError, match="lorefuse run"):
        Client(supervisor.url).recommend("u1")
    assert deploy(bundles[0], world.store_path, 1, supervisor=supervisor)["version"] == 1


def test_another_family_takes_over_under_load_and_gives_back(
    supervisor: Supervisor, bundles: tuple[Path, Path], din_bundle: Path, world: World, tmp_path: Path
) -> None:
    deploy(bundles[0], world.store_path, 1, supervisor=supervisor)
    bad_path = shutil.copytree(din_bundle, tmp_path / "bad")
    shutil.copyfile(bundles[0] / "ranker.onnx", bad_path / "ranker.onnx")
    reseal(bad_path, "ranker.onnx")
    caller = Caller(supervisor.url)
    caller.start()
    assert deploy(din_bundle, world.store_path, 2, supervisor=supervisor)["side_by_side"]
    time.sleep(0.2)
    served = Control(supervisor.url, supervisor.admin_key).versions()
    assert {name for name, versions in served.items() if versions == [1, 2]} == {"answer", "direct"}
    assert {name for name, versions in served.items() if versions == [2]} == OTHERS
    assert deploy(bundles[0], world.store_path, 1, supervisor=supervisor)["side_by_side"], "an instant return"
    with pytest.raises(DeployError, match="version 1 still answers"):
        deploy(bad_path, world.store_path, 3, supervisor=supervisor)
    assert status(supervisor)["serving"]
    deploy(din_bundle, world.store_path, 2, supervisor=supervisor)
    time.sleep(0.2)
    caller.finish()
    assert caller.errors == []
    changes = [a for a, b in zip(caller.versions, [*caller.versions[1:], ""], strict=True) if a != b]
    assert changes == ["1", "2", "1", "2"]
    with pytest.raises(UsageError, match="between 1 and 12"):
        Client(supervisor.url).recommend("u1", 13)


def test_where_parts_answer_recommend_another_family_replaces_them(
    supervisor: Supervisor, bundles: tuple[Path, Path], din_bundle: Path, world: World, tmp_path: Path
) -> None:
    """As on a GPU, whose `recommend` asks `features`, `catalogue_ranker` and `answer`."""
    deploy(bundles[0], world.store_path, 1, supervisor=supervisor)
    write_config(
        supervisor.repository.path / "recommend" / CONFIG_FILE,
        ensemble_config(supervisor.repository.signatures(1), 1, gpu=True),
    )
    Control(supervisor.url, supervisor.admin_key).load("recommend")
    assert not deploy(din_bundle, world.store_path, 2, supervisor=supervisor)["side_by_side"]
    bad_path = shutil.copytree(bundles[0], tmp_path / "bad")
    (bad_path / "ranker.onnx").write_bytes(b"not a graph")
    reseal(bad_path, "ranker.onnx")
    with pytest.raises(DeployError, match="version 2 still answers"):
        deploy(bad_path, world.store_path, 3, supervisor=supervisor)
    assert len(Client(supervisor.url).recommend("nobody", 7).items) == 7


def test_a_larger_catalogue_stands_beside_the_smaller_one(
    supervisor: Supervisor, bundles: tuple[Path, Path], rankers: tuple[Ranker, Ranker], world: World, tmp_path: Path
) -> None:
    deploy(bundles[0], world.store_path, 1, supervisor=supervisor)
    larger_path = make_bundle(grow(world, tmp_path), rankers[0], tmp_path / "larger")
    caller = Caller(supervisor.url)
    caller.start()
    assert deploy(larger_path, world.store_path, 2, supervisor=supervisor)["side_by_side"]
    caller.finish()
    assert caller.errors == []
    answer = Client(supervisor.url).recommend("u3", candidates=["brand-new", "no such item"])
    assert [item.item_id for item in answer.items] == ["brand-new"]
    assert answer.model_version == "2"


def test_stop_is_clean_and_start_brings_the_version_back(
    supervisor: Supervisor, bundles: tuple[Path, Path], world: World
) -> None:
    deploy(bundles[0], world.store_path, 1, supervisor=supervisor)
    answer = Client(supervisor.url).recommend("u3")
    process = supervisor.process()
    assert process is not None
    family = [process, *process.children(recursive=True)]
    assert len(family) >= 5, "a server and its stubs"
    assert supervisor.stop()
    assert not supervisor.stop()
    _, alive = psutil.wait_procs(family, timeout=10)
    assert not alive, "stubs outlived the server"
    assert "Timeout 10" in supervisor.log_path.read_text()
    assert status(supervisor)["problem"] == "Triton is not running: make up"
    facts = up(supervisor)
    assert facts["serving"]
    assert facts["version"] == 1
    assert Client(supervisor.url).recommend("u3") == answer
    again = supervisor.start()
    assert again["adopted"]
    assert again["pid"] == facts["pid"]
    report = deploy(bundles[0], world.store_path, 1, supervisor=supervisor)
    assert report["elapsed_s"] < 5


def test_no_file_of_the_repository_changes_by_being_served(
    supervisor: Supervisor, bundles: tuple[Path, Path], world: World
) -> None:
    supervisor.repository.add(bundles[0], world.store_path, 1)
    before = set(supervisor.repository.path.glob("*/1/**/*"))
    deploy(bundles[0], world.store_path, 1, supervisor=supervisor)
    Client(supervisor.url).recommend("u3")
    assert set(supervisor.repository.path.glob("*/1/**/*")) == before
    assert not list(supervisor.repository.path.rglob("*.partial"))


def test_a_dead_stub_is_noticed_by_asking(supervisor: Supervisor, bundles: tuple[Path, Path], world: World) -> None:
    deploy(bundles[0], world.store_path, 1, supervisor=supervisor)
    process = supervisor.process()
    assert process is not None
    for stub in process.children(recursive=True):
        if "/features/1" in " ".join(stub.cmdline()):
            stub.send_signal(signal.SIGKILL)
    time.sleep(0.5)
    facts = status(supervisor)
    assert facts["running"]
    assert not facts["serving"]
    assert "features" in facts["problem"]
    assert deploy(bundles[0], world.store_path, 1, supervisor=supervisor)["max_score_difference"] <= 1e-5
    assert status(supervisor)["serving"]


def test_a_killed_server_is_started_again(supervisor: Supervisor, bundles: tuple[Path, Path], world: World) -> None:
    deploy(bundles[0], world.store_path, 1, supervisor=supervisor)
    process = supervisor.process()
    assert process is not None
    process.kill()
    process.wait(10)
    assert supervisor.process() is None
    assert up(supervisor)["serving"]


def test_a_taken_port_is_named(supervisor: Supervisor, bundles: tuple[Path, Path], world: World) -> None:
    deploy(bundles[0], world.store_path, 1, supervisor=supervisor)
    other = dataclasses.replace(supervisor, serve_path=supervisor.serve_path.parent / "other")
    with pytest.raises(DeployError, match=rf"port {supervisor.ports.http} is taken"):
        other.start()
    moved = dataclasses.replace(supervisor, ports=Ports(1, 2, 3))
    with pytest.raises(DeployError, match="already runs on other ports"):
        moved.process()
    assert moved.stop()
    assert supervisor.process() is None


def test_a_canary_names_the_model_that_is_wrong(
    supervisor: Supervisor, bundles: tuple[Path, Path], world: World
) -> None:
    deploy(bundles[0], world.store_path, 1, supervisor=supervisor)
    reference_path = supervisor.repository.path / "ranker" / "1" / "reference.safetensors"
    shutil.copyfile(bundles[1] / "reference.safetensors", reference_path)
    with pytest.raises(DeployError, match="ranker 1 answers wrongly"):
        verify_ready(supervisor.url, supervisor.repository, 1)


def test_old_versions_are_pruned(supervisor: Supervisor, bundles: tuple[Path, Path], world: World) -> None:
    for version in (1, 2, 3, 4):
        deploy(bundles[version % 2], world.store_path, version, supervisor=supervisor)
    kept = sorted(path.name for path in (supervisor.repository.path / "ranker").iterdir() if path.name.isdigit())
    assert kept == ["2", "3", "4"]
    assert KEPT_VERSIONS == 3
