"""Deliveries are signed by MLflow's own code, so that what is believed here is what MLflow sends."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from mlflow.webhooks.delivery import _generate_hmac_signature

from lorefuse.core.errors import UsageError
from lorefuse.deploy.webhook import MAX_AGE_S, MAX_AT_ONCE, PATH, RefusedDeliveryError, Verifier, serve

SECRET = "a secret of some length"
BODY = json.dumps({"data": {"name": "lorefuse-ranker", "alias": "champion", "version": "3"}})


def signed(
    body: str = BODY, *, delivery_id: str = "one", stamp: int | None = None, secret: str = SECRET
) -> dict[str, str]:
    text = str(int(time.time()) if stamp is None else stamp)
    return {
        "X-MLflow-Delivery-Id": delivery_id,
        "X-MLflow-Timestamp": text,
        "X-MLflow-Signature": _generate_hmac_signature(secret, delivery_id, text, body),
    }


def test_a_delivery_of_mlflows_is_believed_once() -> None:
    verifier = Verifier(SECRET)
    assert verifier.check(signed(), BODY.encode())["data"]["version"] == "3"
    with pytest.raises(RefusedDeliveryError, match="here before"):
        verifier.check(signed(), BODY.encode())
    assert verifier.check(signed(delivery_id="two"), BODY.encode())


@pytest.mark.parametrize("change", ["secret", "body", "id", "time", "unsigned"])
def test_a_changed_delivery_is_refused(change: str) -> None:
    headers, body = signed(secret="another secret" if change == "secret" else SECRET), BODY
    if change == "body":
        body = BODY.replace("3", "4")
    elif change == "id":
        headers["X-MLflow-Delivery-Id"] = "three"
    elif change == "time":
        headers["X-MLflow-Timestamp"] = str(int(headers["X-MLflow-Timestamp"]) + 1)
    elif change == "unsigned":
        del headers["X-MLflow-Signature"]
    with pytest.raises(RefusedDeliveryError, match="signature"):
        Verifier(SECRET).check(headers, body.encode())


@pytest.mark.parametrize("age_s", [MAX_AGE_S + 5, -MAX_AGE_S - 5])
def test_an_old_or_future_delivery_is_refused(age_s: int) -> None:
    with pytest.raises(RefusedDeliveryError, match="too old"):
        Verifier(SECRET).check(signed(stamp=int(time.time()) - age_s), BODY.encode())


def test_the_secret_is_not_shown() -> None:
    assert SECRET not in repr(Verifier(SECRET))


@pytest.fixture
def listening() -> Iterator[tuple[int, list[int | None]]]:
    hints: list[int | None] = []
    server = serve(0, Verifier(SECRET), "lorefuse-ranker", hints.append)
    yield server.server_port, hints
    server.shutdown()
    server.server_close()


def post(port: int, body: str, headers: dict[str, str], path: str = PATH) -> int:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body.encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code if b"Traceback" not in error.read() else 0


def test_the_receiver_hints_at_the_version(listening: tuple[int, list[int | None]]) -> None:
    port, hints = listening
    assert post(port, BODY, signed()) == 200
    deleted = json.dumps({"data": {"name": "lorefuse-ranker", "alias": "champion"}})
    assert post(port, deleted, signed(deleted, delivery_id="two")) == 200
    assert hints == [3, None]


def test_the_receiver_ignores_other_models_and_refuses_the_rest(listening: tuple[int, list[int | None]]) -> None:
    port, hints = listening
    other = json.dumps({"data": {"name": "other", "alias": "champion", "version": "3"}})
    assert post(port, other, signed(other)) == 200
    assert post(port, BODY, {}) == 401
    assert post(port, "no json", signed("no json", delivery_id="two")) == 401
    assert post(port, BODY, signed(delivery_id="three"), path="/other") == 404
    assert post(port, "x" * 70_000, {}) == 413
    assert hints == []


def test_a_taken_port_is_named(listening: tuple[int, list[int | None]]) -> None:
    with pytest.raises(UsageError, match="cannot listen"):
        serve(listening[0], Verifier(SECRET), "lorefuse-ranker", print)


@pytest.mark.parametrize("length", ["²", "١٢", "-5", "9" * 5000, "1e3", ""])
def test_an_odd_length_is_one_refusal_and_no_traceback(length: str, capfd: pytest.CaptureFixture[str]) -> None:
    server = serve(0, Verifier(SECRET), "lorefuse-ranker", lambda version: None)
    try:
        with socket.create_connection(("127.0.0.1", server.server_port), timeout=10) as connection:
            head = f"POST {PATH} HTTP/1.1\r\nHost: here\r\nContent-Length: {length}\r\n\r\n"
            connection.sendall(head.encode("utf-8"))
            assert b" 413 " in connection.recv(1000).splitlines()[0] + b" "
    finally:
        server.shutdown()
        server.server_close()
    assert "Traceback" not in capfd.readouterr().err


def test_connections_that_break_off_or_hang_take_nothing_with_them(capfd: pytest.CaptureFixture[str]) -> None:
    hints: list[int | None] = []
    server = serve(0, Verifier(SECRET), "lorefuse-ranker", hints.append)
    idle = [socket.create_connection(("127.0.0.1", server.server_port), timeout=10) for _ in range(MAX_AT_ONCE + 5)]
    try:
        for connection in idle:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closed by a reset
        for connection in idle[:MAX_AT_ONCE]:
            connection.sendall(b"POST /webhook HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc")
        assert threading.active_count() <= MAX_AT_ONCE + 20
    finally:
        for connection in idle:
            connection.close()
    while not hints:
        request = urllib.request.Request(
            f"http://127.0.0.1:{server.server_port}{PATH}", BODY.encode(), signed(delivery_id=str(time.time()))
        )
        with contextlib.suppress(OSError), urllib.request.urlopen(request, timeout=10) as answer:
            assert answer.status == 200
    server.shutdown()
    server.server_close()
    assert hints == [3]
    assert "Traceback" not in capfd.readouterr().err
