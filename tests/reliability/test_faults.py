"""Each fault for real, and what must follow: the last good version goes on, the state says what happened.

Faults here: a killed and a hung Triton, a killed stub, a restart onto a version that no longer loads; a truncated, a
tampered, a missing and a foreign artifact, a version without online features; a registry that is gone, that never
answers, that answers nonsense; a damaged database; a full disk; a damaged state file, a roll-out cut short. Stopped
PostgreSQL and Redis servers are in `tests/stores`, kills of the reconciler's process in `test_reconciler_kill.py`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from lorefuse.client import Client
from lorefuse.core.atomic import write_json
from lorefuse.core.errors import DeployError, UnreachableError
from lorefuse.core.settings import settings
from lorefuse.deploy.control import Control
from lorefuse.deploy.reconcile import Reconciler
from lorefuse.deploy.replica import state_path
from lorefuse.deploy.rollout import Rollout
from lorefuse.deploy.state import Stage, load_state
from lorefuse.deploy.supervisor import Supervisor
from lorefuse.deploy.verify import verify_ready
from tests.helpers.synthetic_bundle import World
from tests.reliability.conftest import Harness, Registry, eventually, settled

Bundles = tuple[Path, Path]


@pytest.fixture
def serving(harness: Harness, registry: Registry, bundles: Bundles) -> tuple[Reconciler, str, str]:
    """A reconciler whose first version is live, and a second one that nobody asked for yet."""
    first, second = registry.publish(bundles[0]), registry.publish(bundles[1])
    registry.champion(first)
    reconciler = harness.start()
    settled(reconciler, first)
    return reconciler, first, second


def answers(supervisor: Supervisor) -> str:
    """Return the version that answers; empty where nobody does."""
    try:
        with Client(supervisor.url, max_retries=0) as client:
            return client.recommend("u3", 5).model_version
    except UnreachableError:
        return ""


def stubs(supervisor: Supervisor, name: str) -> list[int]:
    process = supervisor.process()
    assert process is not None
    return [stub.pid for stub in process.children(recursive=True) if f"/{name}/" in " ".join(stub.cmdline())]


def another_answers(supervisor: Supervisor, pid: int, version: str) -> bool:
    """Tell whether another process than `pid` answers: the old one may do so while it is being ended."""
    process = supervisor.process()
    return process is not None and process.pid != pid and answers(supervisor) == version


@pytest.mark.parametrize(
    "fault",
    ["triton killed", "triton hung", "features stub killed", "first direct stub killed", "last direct stub killed"],
)
def test_a_server_that_stops_answering_is_brought_back(
    serving: tuple[Reconciler, str, str], harness: Harness, fault: str
) -> None:
    reconciler, first, _ = serving
    supervisor = harness.supervisor
    process = supervisor.process()
    assert process is not None
    watchdog = reconciler.followers[0].watchdog
    before = watchdog.num_restarts
    if fault.endswith("stub killed"):
        pids = stubs(supervisor, fault.split()[-3])
        chosen = {"first": pids[:1], "last": pids[-1:]}
        for pid in chosen.get(fault.split()[0], pids):
            os.kill(pid, signal.SIGKILL)
    else:
        process.send_signal(signal.SIGKILL if fault == "triton killed" else signal.SIGSTOP)
    assert eventually(lambda: another_answers(supervisor, process.pid, first))
    assert watchdog.num_restarts > before
    assert eventually(lambda: not reconciler.states[0].problem)
    assert reconciler.states[0].stage == Stage.LIVE


def test_a_stub_that_hangs_is_found_while_others_answer(serving: tuple[Reconciler, str, str], harness: Harness) -> None:
    reconciler, first, _ = serving
    supervisor, ended = harness.supervisor, threading.Event()
    process = supervisor.process()
    assert process is not None

    def traffic() -> None:
        with Client(supervisor.url, max_retries=0, timeout_s=1.0) as client:
            while not ended.is_set():
                with contextlib.suppress(UnreachableError):
                    client.recommend("u3", 5)

    threads = [threading.Thread(target=traffic) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        hung = stubs(supervisor, "direct")[-1]
        os.kill(hung, signal.SIGSTOP)
        assert eventually(lambda: another_answers(supervisor, process.pid, first))
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert not reconciler.states[0].verdicts
    assert not psutil.pid_exists(hung), "it went with its server"


def test_a_server_that_was_stopped_on_purpose_is_left_alone(
    serving: tuple[Reconciler, str, str], harness: Harness
) -> None:
    reconciler, first, _ = serving
    watchdog = reconciler.followers[0].watchdog
    before = watchdog.num_restarts
    harness.supervisor.stop(on_purpose=True)
    assert eventually(lambda: "on purpose" in reconciler.states[0].problem)
    assert watchdog.num_restarts == before
    assert harness.supervisor.gone()
    harness.supervisor.start()
    assert eventually(lambda: answers(harness.supervisor) == first and not reconciler.states[0].problem)


@pytest.mark.parametrize("fault", ["truncated graph", "tampered file", "missing bundle", "missing store", "no tags"])
def test_a_version_that_is_not_whole_is_rejected(
    serving: tuple[Reconciler, str, str], harness: Harness, registry: Registry, bundles: Bundles, fault: str
) -> None:
    reconciler, first, second = serving
    files = registry.files(second)
    if fault == "truncated graph":
        path = files / "bundle" / "ranker.onnx"
        path.write_bytes(path.read_bytes()[:500])
    elif fault == "tampered file":
        path = files / "bundle" / "vocabularies.json"
        path.write_text(path.read_text().replace("u1", "u9"))
    elif fault == "missing bundle":
        (files / "bundle").rename(files / "gone")
    elif fault == "missing store":
        (files / "store").rename(files / "gone")
    else:
        from lorefuse.registry.tracking import connect

        connect().delete_model_version_tag("lorefuse-ranker", second, "lorefuse.bundle_sha256")
        connect().set_registered_model_alias("lorefuse-ranker", "champion", second)
    if fault != "no tags":
        registry.champion(second)
    assert eventually(lambda: second in reconciler.states[0].verdicts)
    assert eventually(lambda: registry.tags(second).get("state") == "rejected")
    assert "Traceback" not in registry.tags(second)["reason"]
    state = reconciler.states[0]
    assert (state.stage, state.actual) == (Stage.LIVE, int(first))
    assert f"version {second} was refused" in state.reason
    assert answers(harness.supervisor) == first
    assert not list(harness.supervisor.repository.path.glob(f"*/{second}")), "nothing half-written"
    third = registry.publish(bundles[1])
    registry.champion(third)
    settled(reconciler, third)


def test_a_version_without_online_features_is_rejected(
    serving: tuple[Reconciler, str, str], registry: Registry, bundles: Bundles
) -> None:
    reconciler, first, _ = serving
    bare = registry.publish(bundles[1], store=False)
    registry.champion(bare)
    assert eventually(lambda: bare in reconciler.states[0].verdicts)
    assert "does not carry store/" in reconciler.states[0].verdicts[bare].reason
    assert reconciler.states[0].actual == int(first)


@pytest.fixture
def silent_server() -> Iterator[str]:
    """Takes connections and never says a word."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(16)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def nonsense_server() -> Iterator[str]:
    """Answers every request with a page that is not MLflow's."""
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>It works!</html>")

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("fault", ["gone", "silent", "nonsense"])
def test_a_registry_in_trouble_holds_up_no_server(
    serving: tuple[Reconciler, str, str],
    harness: Harness,
    registry: Registry,
    fault: str,
    silent_server: str,
    nonsense_server: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reconciler, first, second = serving
    places = {"gone": "http://127.0.0.1:9", "silent": silent_server, "nonsense": nonsense_server}
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", places[fault])
        assert eventually(lambda: bool(reconciler.watcher.problem))
        # A server that dies meanwhile is brought back all the same.
        before = reconciler.followers[0].watchdog.num_restarts
        process = harness.supervisor.process()
        assert process is not None
        process.kill()
        assert eventually(lambda: reconciler.followers[0].watchdog.num_restarts > before)
        assert eventually(lambda: answers(harness.supervisor) == first and bool(reconciler.states[0].registry))
    registry.champion(second)
    settled(reconciler, second)
    assert eventually(lambda: not reconciler.states[0].registry)


def test_a_damaged_database_is_named_and_survived(
    serving: tuple[Reconciler, str, str], harness: Harness, registry: Registry
) -> None:
    reconciler, first, second = serving
    path = settings().home_path / "mlflow" / "mlflow.db"
    whole = path.read_bytes()
    path.write_bytes(b"no database " * 10_000)
    assert eventually(lambda: bool(reconciler.watcher.problem))
    assert answers(harness.supervisor) == first
    path.write_bytes(whole)
    assert eventually(lambda: not reconciler.watcher.problem)
    registry.champion(second)
    settled(reconciler, second)


@pytest.mark.skipif(os.geteuid() != 0, reason="filling a disk takes a small file system, and mounting one takes root")
def test_a_full_disk_keeps_the_last_version_serving(
    serving: tuple[Reconciler, str, str], harness: Harness, registry: Registry, tmp_path: Path
) -> None:
    reconciler, first, second = serving
    repository_path = harness.supervisor.repository.path
    folder_path = repository_path / "catalogue_ranker"
    # The new version's largest file has to go onto a disk that has no room for it.
    kept = {path.name: path for path in folder_path.iterdir()}
    disk_path = tmp_path / "disk"
    disk_path.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk_path)], check=False)
    if mounted.returncode:
        pytest.skip("a small file system cannot be mounted here")
    try:
        versions_path = reconciler.watcher.folder_path
        moved_path = versions_path.rename(tmp_path / "versions")
        versions_path.symlink_to(disk_path, target_is_directory=True)
        registry.champion(second)
        assert eventually(lambda: "No space left" in reconciler.watcher.problem or "room" in reconciler.watcher.problem)
        assert answers(harness.supervisor) == first
        assert second not in reconciler.states[0].verdicts, "a full disk is no fault of the version"
        assert not [path for path in disk_path.iterdir() if not path.name.startswith(".")], "nothing half-written"
        versions_path.unlink()
        moved_path.rename(versions_path)
        settled(reconciler, second)
    finally:
        subprocess.run(["umount", "-l", str(disk_path)], check=False)
    assert set(kept) <= {path.name for path in folder_path.iterdir()}


@pytest.mark.parametrize("text", ["", "{", '{"stage": "canary", "candidate": 99, "actual": 98}'])
def test_a_damaged_state_is_found_again(
    serving: tuple[Reconciler, str, str], harness: Harness, registry: Registry, text: str
) -> None:
    _, first, second = serving
    harness.close()
    state_path(harness.supervisor).write_text(text)
    reconciler = harness.start()
    settled(reconciler, first)
    assert reconciler.states[0].candidate is None
    registry.champion(second)
    settled(reconciler, second)


@pytest.mark.parametrize("moment", ["built", "beside", "on trial", "switched"])
def test_a_roll_out_cut_short_is_finished(
    serving: tuple[Reconciler, str, str],
    harness: Harness,
    registry: Registry,
    bundles: Bundles,
    moment: str,
    world: World,
) -> None:
    """The reconciler ended in the middle of a roll-out: whatever it had got to, the next one comes to the same end."""
    reconciler, _, second = serving
    harness.close()
    registry.champion(second)
    rollout = Rollout(harness.supervisor, int(second), 50, 500)
    harness.supervisor.repository.add(bundles[1], world.store_path, int(second))
    if moment != "built":
        rollout.bring_beside()
    if moment == "on trial":
        rollout.start_trial(0.5)
    if moment == "switched":
        harness.supervisor.repository.configure_front(int(second))
    reconciler = harness.start()
    settled(reconciler, second)
    assert answers(harness.supervisor) == second
    names = {path.name for path in harness.supervisor.repository.path.iterdir()}
    assert eventually(lambda: not {"recommend_canary", "recommend_stable"} & names)


def test_a_roll_out_of_another_family_cut_short_and_taken_back_leaves_nothing(
    serving: tuple[Reconciler, str, str], harness: Harness, registry: Registry, din_bundle: Path, world: World
) -> None:
    """Its parts were loaded, and the alias has returned: those of the version that answers come back."""
    _, first, _ = serving
    harness.close()
    third, supervisor = int(registry.publish(din_bundle)), harness.supervisor
    supervisor.repository.add(din_bundle, world.store_path, third)
    Rollout(supervisor, third, 50, 500).bring_beside()
    with pytest.raises(DeployError, match="no answer"):
        verify_ready(supervisor.url, supervisor.repository, int(first))
    harness.start()
    assert eventually(
        lambda: first in map(str, Control(supervisor.url, supervisor.admin_key).versions().get("features", []))
    )
    assert eventually(lambda: not (supervisor.repository.path / "recommend_canary").exists())
    verify_ready(supervisor.url, supervisor.repository, int(first))


def test_a_version_that_no_longer_loads_gives_way_to_the_one_before(
    serving: tuple[Reconciler, str, str], harness: Harness, registry: Registry
) -> None:
    reconciler, first, second = serving
    registry.champion(second)
    settled(reconciler, second)
    path = harness.supervisor.repository.path / "ranker" / second / "model.onnx"
    path.write_bytes(path.read_bytes()[:500])
    process = harness.supervisor.process()
    assert process is not None
    process.kill()
    assert eventually(lambda: reconciler.states[0].actual == int(first) and answers(harness.supervisor) == first)
    assert eventually(lambda: registry.tags(second).get("state") == "rolled_back")
    assert "stopped answering" in reconciler.states[0].verdicts[second].reason


def test_a_state_that_says_less_than_triton_is_believed_less(
    serving: tuple[Reconciler, str, str], harness: Harness
) -> None:
    _, first, _ = serving
    write_json(state_path(harness.supervisor), {"actual": 77, "stage": "live", "desired": 77})
    assert eventually(lambda: load_state(state_path(harness.supervisor), "local").actual == int(first))
    assert eventually(lambda: answers(harness.supervisor) == first)
