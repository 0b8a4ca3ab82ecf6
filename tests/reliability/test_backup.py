"""A home in one file while it serves, and back in another place: real registry, real Triton, real requests."""

from __future__ import annotations

import json
import shutil
import sqlite3
import tarfile
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from lorefuse.client import Client
from lorefuse.core.errors import ArtifactError, UsageError
from lorefuse.core.settings import settings
from lorefuse.deploy.reconcile import Reconciler
from lorefuse.deploy.supervisor import Supervisor
from lorefuse.export.model_repository import ModelRepository
from lorefuse.recovery.backup import back_up, restore
from tests.reliability.conftest import Harness, Registry, settled
from tests.reliability.test_reconcile import Load

Bundles = tuple[Path, Path]


def test_a_home_is_backed_up_while_it_serves_and_serves_again_elsewhere(
    harness: Harness, registry: Registry, bundles: Bundles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home_path = settings().home_path
    supervisor = Supervisor(home_path / "serve", harness.supervisor.ports, harness.supervisor.python_path, http=True)
    harness.supervisor = supervisor
    first, second = registry.publish(bundles[0]), registry.publish(bundles[1])
    registry.champion(first)
    reconciler = harness.start()
    settled(reconciler, first)
    backups = [tmp_path / f"home{number}.tar" for number in range(4)]
    with Load(supervisor.url) as load:
        move = threading.Thread(target=registry.champion, args=(second,))
        move.start()
        for path in backups:
            back_up(path)
        move.join()
        settled(reconciler, second)
    assert not load.errors
    assert len({version for *_, version in load.answers}) == 2
    back_up(tmp_path / "last.tar")
    expected = Client(supervisor.url).recommend("u3", 5)
    harness.close()
    supervisor.stop()
    for number, path in enumerate([*backups, tmp_path / "last.tar"]):
        monkeypatch.setenv("LOREFUSE_HOME", str(tmp_path / f"restored{number}"))
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)  # MLflow sets it for children of this process
        restore(path)
        assert ModelRepository(settings().serve_path / "model_repository").active in (int(first), int(second))
    shutil.rmtree(home_path)  # whatever still led there leads nowhere
    moved = Supervisor(settings().serve_path, supervisor.ports, supervisor.python_path, http=True)
    try:
        moved.start()
        answer = Client(moved.url).recommend("u3", 5)
        assert answer.model_version == second
        assert [item.item_id for item in answer.items] == [item.item_id for item in expected.items]
        again = Reconciler(reconciler.config, [moved])
        harness.made.append(again)
        again.start()
        settled(again, second)
        registry.champion(first)  # its artifacts are found at their new place
        settled(again, first)
        harness.close()
    finally:
        moved.stop()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with something of each kind."""
    path = tmp_path / "home"
    monkeypatch.setenv("LOREFUSE_HOME", str(path))
    for name in (
        "report.html", "cache/steps/bundle/abc/ranker.onnx", "cache/steps/tune/def/studies.json", "runs/1/pipeline.log",
        "serve/triton.key", "serve/triton.json", "serve/triton.log.2", "serve/deploy.lock", "serve/.x.partial",
        "serve/model_repository/recommend/config.pbtxt", "auto/shop.yaml",
    ):  # fmt: skip
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(name)
    (path / "serve" / "deployed.json").write_text(
        f'{{"version": 1, "bundle_path": "{path}/cache/steps/bundle/abc", "store_path": "/elsewhere"}}'
    )
    (path / "serve" / "model_repository" / "recommend" / "7").mkdir()
    (path / "mlflow").mkdir()
    with closing(sqlite3.connect(path / "mlflow" / "mlflow.db")) as database, database:
        for table, columns in (
            ("experiments", "artifact_location"), ("runs", "artifact_uri"), ("logged_models", "artifact_location"),
            ("model_versions", "storage_location, source"),
        ):  # fmt: skip
            database.execute(f"CREATE TABLE {table} ({columns})")
        database.execute(
            "INSERT INTO experiments VALUES (?), (?), (?)", (path.as_uri(), f"{path.as_uri()}/é", "s3://b")
        )
        database.execute("INSERT INTO runs VALUES (?), (?)", (f"{path.as_uri()}2/x", f"{path}/mlflow"))
    return path


def test_what_is_in_it_and_what_is_not(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = back_up(tmp_path / "home.tar")
    assert (tmp_path / "home.tar").stat().st_mode & 0o077 == 0
    (home / "report.html").write_text("changed since")
    new_path = tmp_path / "new é"
    restored = restore(tmp_path / "home.tar", new_path)
    assert restored.num_files == found.num_files == 7
    assert not found.elsewhere
    assert sorted(str(path.relative_to(new_path)) for path in new_path.rglob("*") if path.is_file()) == [
        "auto/shop.yaml", "cache/steps/bundle/abc/ranker.onnx", "mlflow/mlflow.db", "report.html",
        "serve/deployed.json", "serve/model_repository/recommend/config.pbtxt",
    ]  # fmt: skip
    assert (new_path / "serve" / "model_repository" / "recommend" / "7").is_dir(), "an empty version of Triton's"
    assert (new_path / "report.html").read_text() == "report.html"
    assert new_path.stat().st_mode & 0o077 == 0
    with closing(sqlite3.connect(new_path / "mlflow" / "mlflow.db")) as database:
        experiments = [text for (text,) in database.execute("SELECT * FROM experiments")]
        runs = [text for (text,) in database.execute("SELECT * FROM runs")]
    assert experiments == [new_path.as_uri(), f"{new_path.as_uri()}/é", "s3://b"]
    assert runs == [f"{home.as_uri()}2/x", f"{new_path}/mlflow"], "a folder whose name begins alike is another"
    deployed = json.loads((new_path / "serve" / "deployed.json").read_text())
    assert deployed == {
        "version": 1, "bundle_path": f"{new_path}/cache/steps/bundle/abc", "store_path": "/elsewhere",
    }  # fmt: skip
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    assert back_up(tmp_path / "other.tar").elsewhere == ["the registry (MLFLOW_TRACKING_URI)"]


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20_000])


def _change(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"auto/shop.yaml\0", b"auto/shop.yamm\0", 2))


def _smuggle(path: Path) -> None:
    with tarfile.open(path, "a") as tar:
        tar.addfile(tarfile.TarInfo("lorefuse-home/../../evil"))


def _link(path: Path) -> None:
    entry = tarfile.TarInfo("lorefuse-home/link")
    entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
    with tarfile.open(path, "w") as tar:
        tar.addfile(entry)


@pytest.mark.parametrize("damage", [_cut, _change, _smuggle, _link, lambda path: path.write_text("no tar")])
def test_a_damaged_backup_restores_nothing(home: Path, tmp_path: Path, damage: Callable[[Path], object]) -> None:
    back_up(tmp_path / "home.tar")
    damage(tmp_path / "home.tar")
    with pytest.raises(ArtifactError, match="cannot be restored"):
        restore(tmp_path / "home.tar", tmp_path / "new")
    assert not (tmp_path / "new").exists()
    assert not (tmp_path / "evil").exists()
    assert not list(tmp_path.glob(".*.partial"))


def test_what_cannot_be_read_or_written_is_said(home: Path, tmp_path: Path) -> None:
    (home / "studies.db").write_bytes(b"SQLite format 3\0 and nothing that follows")
    with pytest.raises(ArtifactError, match=r"(?s)could not be backed up.*got: .*(malformed|not a database)"):
        back_up(tmp_path / "home.tar")
    (home / "studies.db").unlink()
    (tmp_path / "file").touch()
    with pytest.raises(ArtifactError, match="could not be backed up"):
        back_up(tmp_path / "file" / "home.tar")
    assert [path.name for path in tmp_path.iterdir() if path.suffix in (".tar", ".partial")] == []


def test_places_that_are_taken_are_named(home: Path, tmp_path: Path) -> None:
    back_up(tmp_path / "home.tar")
    for out_path in (tmp_path / "home.tar", home / "in-it.tar"):
        with pytest.raises(UsageError, match="name another --out"):
            back_up(out_path)
    with pytest.raises(UsageError, match="is not empty"):
        restore(tmp_path / "home.tar", home)
    with pytest.raises(UsageError, match="There is no home"):
        back_up(tmp_path / "x.tar", tmp_path / "missing")
