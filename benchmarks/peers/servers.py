"""The servers that serving_peers.py asks: ours, the same graph with no server, FastAPI of several kinds, pytriton."""

from __future__ import annotations

import functools
import http.client
import json
import os
import subprocess
import sys
import sysconfig
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil
from peers.environment import FOLDER, PeerUnavailableError, peer_python
from peers.load import Call

from lorefuse.client import Client
from lorefuse.core.schema import Tensor
from lorefuse.deploy.deploy import DEPLOYED_FILE
from lorefuse.deploy.ports import free_ports
from lorefuse.deploy.supervisor import Supervisor
from lorefuse.export.session import open_session
from lorefuse.export.signature import CATALOGUE_RANKER, DIRECT, FEATURES
from lorefuse.export.version_files import MODEL_FILE, REFERENCE_FILE

K, START_TIMEOUT_S = 10, 600
OURS, BARE, PYTRITON = "Lorefuse, gRPC", "bare onnxruntime", "pytriton's callable"
FASTAPI = {
    "torch+feast": ("FastAPI + torch + Feast SDK", "torch", "feast"),
    "onnx+feast": ("FastAPI + onnxruntime + Feast SDK", "by_hand", "feast"),
    "graph+feast": ("FastAPI + our graph + Feast SDK", "graph", "feast"),
    "graph+reader": ("FastAPI + our graph + our reader", "graph", "reader"),
}
"""Option → name, what scores, what reads features. The last two run our code: they tell what the server alone costs."""
OUR_PARTS = tuple(name for name, score, _ in FASTAPI.values() if score == "graph")


def connect(
    stack: ExitStack, supervisor: Supervisor, version: int, peers: list[str], scratch_path: Path
) -> dict[str, Callable[[], Call]]:
    """Start servers; return name → what makes a connection for a thread: user → ids of the top ten.

    Args:
        stack: Ends the servers.
        supervisor: Of our Triton, which runs.
        version: The one it serves.
        peers: Keys of `FASTAPI`, and ``pytriton``; one whose environment cannot be made is skipped, loudly.
        scratch_path: Folder for logs.
    """
    sources = json.loads((supervisor.serve_path / DEPLOYED_FILE).read_text("utf-8"))
    folder_path = supervisor.repository.path / DIRECT / str(version)
    client = stack.enter_context(Client(supervisor.url))
    makers: dict[str, Callable[[], Call]] = {
        OURS: lambda: lambda user: [item.item_id for item in client.recommend(user, K).items]
    }
    if not supervisor.repository.retrieves(version):
        makers = {BARE: lambda: _bare(supervisor, version), **makers}
    for name in peers:
        ports = free_ports()
        command = ["--version-folder", str(folder_path)]
        try:
            if name == "pytriton":
                command += [f"--{kind}-port={getattr(ports, kind)}" for kind in ("grpc", "http", "metrics")]
                python_path, url = peer_python("pytriton"), f"http://127.0.0.1:{ports.http}/v2/models/recommend/ready"
                stack.enter_context(_server(python_path, "pytriton", command, url, scratch_path))
                peer_client = stack.enter_context(Client(f"127.0.0.1:{ports.grpc}"))
                makers[PYTRITON] = functools.partial(_of_client, peer_client)
                continue
            title, score, features = FASTAPI[name]
            command += ["--port", str(ports.http), "--score", score, "--features", features]
            command += ["--bundle", sources["bundle_path"], "--store", sources["store_path"]]
            url = f"http://127.0.0.1:{ports.http}/recommend/1"
            stack.enter_context(_server(Path(sys.executable), "fastapi", command, url, scratch_path))
            makers[title] = functools.partial(_http, ports.http)
        except PeerUnavailableError as error:
            print(f"{name}: SKIPPED, {error}")
    return makers


def user_ids(supervisor: Supervisor, version: int) -> list[str]:
    """Return the first 500 ids that a version knows."""
    path = supervisor.repository.path / FEATURES / str(version) / "features.json"
    return list(dict(json.loads(path.read_text("utf-8"))["user_fields"])["user_id"])[:500]


def _of_client(client: Client) -> Call:
    return lambda user: [item.item_id for item in client.recommend(user, K).items]


def _http(port: int) -> Call:
    connection = http.client.HTTPConnection("127.0.0.1", port)

    def call(user: str) -> list[str]:
        connection.request("GET", f"/recommend/{user}?k={K}")
        answer: list[str] = json.loads(connection.getresponse().read())["item_id"]
        return answer

    return call


def _bare(supervisor: Supervisor, version: int) -> Call:
    from safetensors.numpy import load_file

    folder_path = supervisor.repository.path / CATALOGUE_RANKER / str(version)
    session, outputs = open_session(folder_path / MODEL_FILE), [Tensor.CATALOGUE_ROW.value, Tensor.SCORE.value]
    reference = load_file(str(folder_path / REFERENCE_FILE))
    inputs = {name: array[:1] for name, array in reference.items() if name not in outputs}
    return lambda user: session.run(outputs, inputs)


@contextmanager
def _server(python_path: Path, name: str, arguments: list[str], url: str, scratch_path: Path) -> Iterator[None]:
    """Run a peer's server until the block ends."""
    log_path = scratch_path / f"{len(list(scratch_path.iterdir()))}.log"
    paths = [str(FOLDER), *([str(FOLDER.parents[1])] if name == "fastapi" else [])]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)}
    if name == "pytriton":  # its stub must meet the libpython of its own interpreter
        environment["LD_LIBRARY_PATH"] = str(sysconfig.get_config_var("LIBDIR"))
    with log_path.open("wb") as log:
        command = [str(python_path), str(FOLDER / f"{name}_runner.py"), *arguments]
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    try:
        end_s = time.monotonic() + START_TIMEOUT_S
        while not _answers(url):
            if process.poll() is not None or time.monotonic() > end_s:
                raise PeerUnavailableError(f"its server did not start: {log_path.read_text('utf-8')[-800:]}")
            time.sleep(0.3)
        yield
    finally:
        started: list[psutil.Process] = []
        with suppress(psutil.NoSuchProcess):
            started = psutil.Process(process.pid).children(recursive=True)  # pytriton may leave its Triton running
        process.terminate()
        process.wait(30)
        for child in started:
            with suppress(psutil.NoSuchProcess):
                child.kill()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310 (http on the loopback address)
            return bool(answer.status == 200)
    except OSError:
        return False
