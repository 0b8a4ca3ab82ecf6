"""Downloads: checked, cached, all or nothing. The server and pip are real; only the addresses are ours."""

from __future__ import annotations

import hashlib
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from lorefuse.data.download import downloads_path, fetch_url, fetch_wheel
from lorefuse.errors import ChecksumError, UnreachableError

CONTENT = b"raw ratings" * 1000
MD5 = f"md5:{hashlib.md5(CONTENT).hexdigest()}"
SHA256 = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"


@dataclass
class Publisher:
    """A server of one file."""

    url: str = ""
    content: bytes = CONTENT
    status: int = 200
    cut_at: int | None = None
    requests: list[str] = field(default_factory=list)


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    state = Publisher()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.requests.append(self.path)
            self.send_response(state.status)
            self.send_header("Content-Length", str(len(state.content)))
            self.end_headers()
            self.wfile.write(state.content[: state.cut_at])

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_address[1]}/files/set.zip"
    yield state
    server.shutdown()
    server.server_close()


def left_over() -> list[str]:
    return sorted(p.name for p in downloads_path().iterdir()) if downloads_path().exists() else []


@pytest.mark.parametrize("checksum", [MD5, SHA256])
def test_a_file_is_fetched_once(publisher: Publisher, checksum: str) -> None:
    path = fetch_url(publisher.url, checksum)
    assert path.read_bytes() == CONTENT
    assert fetch_url(publisher.url, checksum) == path
    assert publisher.requests == ["/files/set.zip"]
    assert left_over() == ["set.zip"]


def test_a_wrong_checksum_names_both_and_leaves_nothing(publisher: Publisher) -> None:
    publisher.content = b"something else"
    with pytest.raises(ChecksumError) as caught:
        fetch_url(publisher.url, SHA256)
    assert caught.value.expected == SHA256
    assert caught.value.got == f"sha256:{hashlib.sha256(b'something else').hexdigest()}"
    assert caught.value.fix
    assert publisher.url in str(caught.value)
    assert left_over() == []


def test_a_damaged_copy_in_the_cache_is_fetched_again(publisher: Publisher) -> None:
    path = fetch_url(publisher.url, MD5)
    path.write_bytes(CONTENT[:-1])
    assert fetch_url(publisher.url, MD5).read_bytes() == CONTENT
    assert len(publisher.requests) == 2


@pytest.mark.parametrize(("status", "cut_at"), [(404, None), (503, None), (200, 500)])
def test_a_failing_publisher_is_unreachable(publisher: Publisher, status: int, cut_at: int | None) -> None:
    publisher.status, publisher.cut_at = status, cut_at
    with pytest.raises(UnreachableError, match="does not answer"):
        fetch_url(publisher.url, MD5)
    assert left_over() == []


def test_nobody_listening_is_unreachable() -> None:
    with pytest.raises(UnreachableError, match=r"127\.0\.0\.1:9"):
        fetch_url("http://127.0.0.1:9/set.zip", MD5)


def test_offline_asks_nobody_but_uses_the_cache(publisher: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOREFUSE_OFFLINE", "1")
    with pytest.raises(UnreachableError, match="was not asked"):
        fetch_url(publisher.url, MD5)
    assert publisher.requests == []
    monkeypatch.delenv("LOREFUSE_OFFLINE")
    path = fetch_url(publisher.url, MD5)
    monkeypatch.setenv("LOREFUSE_OFFLINE", "1")
    assert fetch_url(publisher.url, MD5) == path


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes for its registry."""
    path = tmp_path / "shelf"
    path.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(path))
    return path


def put_wheel(shelf: Path) -> str:
    """Put a wheel on the shelf; return its sha256."""
    path = shelf / "tiny_set-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("tiny_set/data.csv", "a,b\n")
        wheel.writestr("tiny_set-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-set\nVersion: 1.0\n")
        wheel.writestr("tiny_set-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr("tiny_set-1.0.dist-info/RECORD", "")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_wheel_is_fetched_once_by_the_users_pip(shelf: Path) -> None:
    sha256 = put_wheel(shelf)
    path = fetch_wheel("tiny-set==1.0", sha256)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == sha256
    next(shelf.iterdir()).unlink()
    assert fetch_wheel("tiny-set==1.0", sha256) == path


def test_a_wheel_with_another_checksum_is_refused(shelf: Path) -> None:
    sha256 = put_wheel(shelf)
    with pytest.raises(ChecksumError) as caught:
        fetch_wheel("tiny-set==1.0", "0" * 64)
    assert caught.value.expected == f"sha256:{'0' * 64}"
    assert caught.value.got == f"sha256:{sha256}"
    assert left_over() == []


def test_a_wheel_that_nobody_has_is_unreachable(shelf: Path) -> None:
    with pytest.raises(UnreachableError, match=r"did not give tiny-set==1\.0") as caught:
        fetch_wheel("tiny-set==1.0", "0" * 64)
    assert "No matching distribution" in (caught.value.got or "")
