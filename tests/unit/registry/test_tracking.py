from __future__ import annotations

import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import mlflow
import pytest

from lorefuse.core.errors import ArtifactError, UnreachableError, UsageError
from lorefuse.core.settings import settings
from lorefuse.registry import server
from lorefuse.registry.local_store import create_store
from lorefuse.registry.tracking import connect, ensure_experiment
from lorefuse.registry.version import aliases
from tests.helpers import artifacts
from tests.unit.registry.conftest import Workbench


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_the_home_holds_everything(workbench: Workbench) -> None:
    client = connect()
    experiment = client.get_experiment(ensure_experiment(client, "mine"))
    assert experiment.artifact_location.startswith((settings().home_path / "mlflow" / "artifacts").as_uri())
    client.delete_experiment(experiment.experiment_id)
    assert ensure_experiment(client, "mine") == experiment.experiment_id


def test_a_store_appears_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.store.tracking import sqlalchemy_store

    def die(self: object, uri: str, root: str) -> None:
        Path(uri.removeprefix("sqlite:///")).write_bytes(b"half a database")
        raise KeyboardInterrupt

    monkeypatch.setattr(sqlalchemy_store.SqlAlchemyStore, "__init__", die)
    with pytest.raises(KeyboardInterrupt):
        create_store(tmp_path / "mlflow.db", tmp_path / "artifacts")
    assert [path.name for path in tmp_path.iterdir() if "mlflow.db" in path.name] == []


def test_an_unusable_home_or_database_is_explained(workbench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    (workbench.path / "file").write_text("not a folder")
    with monkeypatch.context() as patch:
        patch.setenv("LOREFUSE_HOME", str(workbench.path / "file" / "home"))
        with pytest.raises(ArtifactError, match="could not create"):
            connect()
    database = settings().home_path / "mlflow" / "mlflow.db"
    database.write_bytes(b"this is not a database" * 100)
    with pytest.raises(ArtifactError, match="whole database"):
        aliases("any")


def test_a_server_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    uri = f"http://127.0.0.1:{_free_port()}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(UnreachableError, match=uri) as caught:
        connect()
    assert "lorefuse up" in str(caught.value)
    assert not server.start().running


def test_importing_the_room_pulls_in_nothing_heavy() -> None:
    code = (
        "import sys, lorefuse.registry.gate, lorefuse.registry.server;"
        "print([m for m in ('mlflow', 'torch', 'sklearn', 'onnx', 'plotly') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
def test_the_server_starts_serves_and_stops(workbench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    port = _free_port()
    started = server.start(port)
    try:
        assert started.running
        assert server.start(port).pid == started.pid
        assert server.status() == started
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(started.url, timeout=10)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", started.url)
        done = workbench.register()  # the same path through a real server
        assert done["run_url"].startswith(started.url)
        assert aliases(artifacts.CONFIG.registry.model_name) == {"challenger": "1"}
        monkeypatch.delenv("MLFLOW_TRACKING_URI")
        assert aliases(artifacts.CONFIG.registry.model_name) == {"challenger": "1"}
    finally:
        assert server.stop()
    assert not server.stop()
    assert not server.status().running


def test_a_taken_port_is_the_users_error(workbench: Workbench) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UsageError, match="another: lorefuse ui --port"):
            server.start(int(taken.getsockname()[1]))


CREATE = """
import sys, time
from pathlib import Path
from lorefuse.registry.tracking import create_store
import mlflow
database = Path(sys.argv[1])
create_store(database, database.parent / "artifacts")
print(mlflow.MlflowClient(f"sqlite:///{database}").create_experiment(sys.argv[2]))
"""


def test_two_first_runs_in_one_home_share_a_store(tmp_path: Path) -> None:
    """The second never replaces what the first has made: an experiment that was committed is still there."""
    database = tmp_path / "mlflow.db"
    names = ("a", "b")
    runs = [
        subprocess.Popen([sys.executable, "-c", CREATE, str(database), name], stderr=subprocess.PIPE) for name in names
    ]
    assert [run.wait() for run in runs] == [0, 0], [run.stderr.read() for run in runs if run.stderr]
    client = mlflow.MlflowClient(f"sqlite:///{database}")
    assert {*names} <= {found.name for found in client.search_experiments()}
