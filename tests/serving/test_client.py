"""The clients: sync, asyncio, shared memory and TLS against a real Triton; retries against a server that refuses."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ipaddress
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from lorefuse.client import AsyncClient, Client, Tls, is_up
from lorefuse.client.admin import admin_headers
from lorefuse.client.connection import ServerTarget
from lorefuse.core.errors import UnreachableError, UsageError
from lorefuse.deploy.ports import free_ports
from lorefuse.deploy.supervisor import Supervisor
from tests.helpers.synthetic_bundle import NUM_USERS, World

USERS = [f"u{n}" for n in range(NUM_USERS)]


def test_asyncio_says_what_threads_say(served: Supervisor, client: Client, world: World) -> None:
    inputs = dict(world.training_set.inputs(np.arange(50)).items())

    async def ask() -> tuple[list[object], np.ndarray]:
        async with AsyncClient(served.url) as asynchronous:
            answers = await asyncio.gather(
                *(asynchronous.recommend(user, 5, filters={"genres": "War"}) for user in USERS)
            )
            scores = await asynchronous.score(inputs)
            with pytest.raises(UsageError, match="no column"):
                await asynchronous.recommend("u1", filters={"colour": "red"})
            with pytest.raises(UsageError, match="empty"):
                await asynchronous.score_text(" ")
            return list(answers), scores

    answers, scores = asyncio.run(ask())
    assert answers == [client.recommend(user, 5, filters={"genres": "War"}) for user in USERS]
    assert (scores == client.score(inputs)).all()


def test_shared_memory_gives_the_same_scores(served: Supervisor, client: Client, world: World) -> None:
    inputs = dict(world.training_set.inputs(np.arange(300)).items())
    expected = client.score(inputs)
    admin = admin_headers(served.admin_key)
    with client.shared_batch(key=served.admin_key) as batch:
        assert (batch.score(inputs) == expected).all()
        few = {name: array[:7] for name, array in inputs.items()}
        assert batch.score(few) == pytest.approx(expected[:7], abs=1e-6)
        with ThreadPoolExecutor(4) as pool:
            assert all((scores == expected).all() for scores in pool.map(batch.score, [inputs] * 8))
        # A server that was restarted knows the region no more.
        client._triton.unregister_system_shared_memory(headers=admin)
        assert (batch.score(inputs) == expected).all()
        with pytest.raises(UsageError, match="refused"):
            batch.score({**few, "item_fields": np.full_like(few["item_fields"], 10**9)})
    assert not client._triton.get_system_shared_memory_status(headers=admin).regions


def test_a_batch_larger_than_the_region_is_refused(served: Supervisor, client: Client, world: World) -> None:
    inputs = dict(world.training_set.inputs(np.arange(100)).items())
    with client.shared_batch(4096, key=served.admin_key) as batch, pytest.raises(UsageError, match="does not fit"):
        batch.score(inputs)
    with pytest.raises(UsageError, match="no room"):
        client.shared_batch(max_bytes=-1)


class Refusing(service_pb2_grpc.GRPCInferenceServiceServicer):
    """A fake server: refuses with one status a number of times, then gives scores."""

    def __init__(self, code: grpc.StatusCode, num_refused: int) -> None:
        self.code, self.num_refused = code, num_refused
        self.times_s: list[float] = []

    def ModelInfer(self, request: object, context: grpc.ServicerContext) -> object:  # noqa: N802 (the protocol's name)
        self.times_s.append(time.monotonic())
        if len(self.times_s) <= self.num_refused:
            context.abort(self.code, "Exceeds maximum queue size")
        answer = service_pb2.ModelInferResponse(model_name="ranker")
        answer.outputs.add(name="score", datatype="FP32", shape=[1, 1])
        answer.raw_output_contents.append(np.float32(0.25).tobytes())
        return answer


@contextlib.contextmanager
def refusing(code: grpc.StatusCode, num_refused: int) -> Iterator[tuple[Refusing, str]]:
    servicer, server = Refusing(code, num_refused), grpc.server(ThreadPoolExecutor(2))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield servicer, f"127.0.0.1:{port}"
    finally:
        server.stop(0).wait()


ROW = {"user_fields": np.zeros((1, 2), np.int64)}


def test_unavailable_is_tried_again_with_growing_pauses() -> None:
    with refusing(grpc.StatusCode.UNAVAILABLE, 3) as (servicer, url), Client(url) as client:
        assert client.score(ROW).tolist() == [0.25]
    pauses_s = np.diff(servicer.times_s)
    assert len(pauses_s) == 3
    assert (pauses_s >= np.array([0.025, 0.05, 0.1])).all()


def test_asyncio_tries_again_too() -> None:
    async def ask(url: str) -> list[float]:
        async with AsyncClient(url) as client:
            scores: list[float] = (await client.score(ROW)).tolist()
            return scores

    with refusing(grpc.StatusCode.UNAVAILABLE, 2) as (servicer, url):
        assert asyncio.run(ask(url)) == [0.25]
    assert len(servicer.times_s) == 3


@pytest.mark.parametrize("code", ["INTERNAL", "INVALID_ARGUMENT", "RESOURCE_EXHAUSTED", "ABORTED", "UNKNOWN"])
def test_nothing_else_is_tried_again(code: str) -> None:
    with refusing(grpc.StatusCode[code], 1) as (servicer, url), Client(url) as client:
        with pytest.raises((UnreachableError, UsageError), match="Exceeds maximum"):
            client.score(ROW)
        assert len(servicer.times_s) == 1


def test_retries_end_with_their_number_and_with_the_deadline() -> None:
    with refusing(grpc.StatusCode.UNAVAILABLE, 99) as (servicer, url):
        with Client(url, max_retries=2) as client, pytest.raises(UnreachableError, match="does not answer"):
            client.score(ROW)
        assert len(servicer.times_s) == 3
        with Client(url, max_retries=50) as client:
            start_s = time.monotonic()
            with pytest.raises(UnreachableError, match="does not answer"):
                client.score(ROW, timeout_s=0.5)
            assert time.monotonic() - start_s < 2


def test_bad_settings_are_refused_at_once() -> None:
    with pytest.raises(UsageError, match="cannot be negative"):
        ServerTarget.of("x:1", 1.0, -1, None)
    with pytest.raises(UsageError, match="go together"):
        Client("127.0.0.1:9", tls=Tls(key_path="key.pem"))
    with pytest.raises(UsageError, match="missing"):
        Client("127.0.0.1:9", tls=Tls(root_path="no/such.pem"))
    with pytest.raises(UsageError, match="deadline must be positive"):
        Client("127.0.0.1:9").recommend("u1", timeout_s=0)


def write_certificates(path: Path) -> None:
    """A root, and certificates of a server on 127.0.0.1 and of a client, all signed by it."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    root_key = ec.generate_private_key(ec.SECP256R1())
    root_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "root")])
    start = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    for name in ("root", "server", "client"):
        key = root_key if name == "root" else ec.generate_private_key(ec.SECP256R1())
        builder = x509.CertificateBuilder(
            issuer_name=root_name,
            subject_name=x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]),
            public_key=key.public_key(),
            serial_number=x509.random_serial_number(),
            not_valid_before=start,
            not_valid_after=start + datetime.timedelta(days=3),
        )
        builder = builder.add_extension(x509.BasicConstraints(ca=name == "root", path_length=None), critical=True)
        address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        certificate = builder.add_extension(address, critical=False).sign(root_key, hashes.SHA256())
        pem = serialization.Encoding.PEM
        (path / f"{name}.pem").write_bytes(certificate.public_bytes(pem))
        no_password = serialization.NoEncryption()
        (path / f"{name}.key").write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, no_password))


@pytest.fixture
def secured(served: Supervisor, tmp_path: Path) -> Iterator[str]:
    """A second server on the same repository that speaks mTLS."""
    write_certificates(tmp_path)
    process, ports = served.process(), free_ports()
    assert process is not None
    moved = {"--http-port": ports.http, "--grpc-port": ports.grpc, "--metrics-port": ports.metrics}
    command = [
        f"{word.split('=')[0]}={moved[word.split('=')[0]]}" if word.split("=")[0] in moved else word
        for word in process.cmdline()
    ]
    command = [word for word in command if not word.startswith("--load-model")] + ["--load-model=recommend"]
    command += ["--grpc-use-ssl=1", "--grpc-use-ssl-mutual=1", f"--grpc-root-cert={tmp_path}/root.pem"]
    command += [f"--grpc-server-cert={tmp_path}/server.pem", f"--grpc-server-key={tmp_path}/server.key"]
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(command, env=process.environ(), stdout=log, stderr=log)
    try:
        yield f"127.0.0.1:{ports.grpc}"
    finally:
        server.terminate()
        server.wait(30)


def test_mtls(secured: str, client: Client, tmp_path: Path) -> None:
    tls = Tls(tmp_path / "root.pem", tmp_path / "client.key", tmp_path / "client.pem")
    with Client(secured, tls=tls, timeout_s=60, max_retries=100) as safe:
        assert safe.recommend("u3", 5) == client.recommend("u3", 5)

    async def ask() -> object:
        async with AsyncClient(secured, tls=tls) as asynchronous:
            return await asynchronous.recommend("u3", 5)

    assert asyncio.run(ask()) == client.recommend("u3", 5)
    for wrong in (Tls(tmp_path / "root.pem"), None):  # without a certificate of its own, and without TLS
        with Client(secured, tls=wrong, timeout_s=5, max_retries=0) as stranger, pytest.raises(UnreachableError):
            stranger.recommend("u3", 5)
    assert is_up(client.url)
    assert not is_up("127.0.0.1:9")
