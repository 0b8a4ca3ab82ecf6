"""Downloads: checked, cached, all or nothing. The server and pip are real; only the addresses are ours."""

from __future__ import annotations

import errno
import hashlib
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from lorefuse.core.errors import ArtifactError, ChecksumError, UnreachableError
from lorefuse.data import transfer
from lorefuse.data.download import downloads_path, fetch_url, fetch_wheel

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
    etag: str | None = None
    ranges: bool = True
    lie_bytes: int = 0
    then: dict[str, object] = field(default_factory=dict)
    """What changes after the first answer."""
    requests: list[str] = field(default_factory=list)
    asked: list[str | None] = field(default_factory=list)


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    state = Publisher()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.requests.append(self.path)
            wanted = self.headers.get("Range")
            state.asked.append(wanted)
            same = self.headers.get("If-Range") in (None, state.etag)
            first = int(wanted[len("bytes=") : -1]) if wanted and state.ranges and same else 0
            self.send_response(206 if first and state.status == 200 else state.status)
            if first:
                self.send_header("Content-Range", f"bytes {first}-{len(state.content) - 1}/{len(state.content)}")
            if state.etag:
                self.send_header("ETag", state.etag)
            body = state.content[first:]
            self.send_header("Content-Length", str(len(body) + state.lie_bytes))
            self.end_headers()
            self.wfile.write(body[: state.cut_at])
            for name, value in state.then.items():
                setattr(state, name, value)
            state.then = {}

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_address[1]}/files/set.zip"
    yield state
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "BACKOFF_S", 0.0)
    monkeypatch.setattr(transfer, "BLOCK_BYTES", 1000)


def left_over() -> list[str]:
    """Return what lies in the cache; the empty lock file of a download stays on purpose."""
    if not downloads_path().exists():
        return []
    return sorted(p.name for p in downloads_path().iterdir() if p.suffix != ".lock")


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


@pytest.mark.parametrize("status", [403, 404])
def test_what_is_not_there_is_asked_for_once(publisher: Publisher, status: int) -> None:
    publisher.status = status
    with pytest.raises(UnreachableError) as caught:
        fetch_url(publisher.url, MD5)
    assert caught.value.got == f"HTTP {status}"
    assert len(publisher.requests) == 1


def test_a_broken_transfer_is_continued_where_it_broke(publisher: Publisher) -> None:
    publisher.etag, publisher.cut_at, publisher.then = '"one"', 4000, {"cut_at": None}
    assert fetch_url(publisher.url, SHA256).read_bytes() == CONTENT
    assert publisher.asked == [None, "bytes=4000-"]
    assert left_over() == ["set.zip"]


def test_a_later_call_continues_an_earlier_one(publisher: Publisher) -> None:
    publisher.etag, publisher.cut_at = '"one"', 2000
    with pytest.raises(UnreachableError, match="does not answer"):
        fetch_url(publisher.url, SHA256)
    assert len(publisher.requests) == transfer.NUM_TRIES
    assert left_over() == [".set.zip.part", ".set.zip.part.tag"]
    publisher.cut_at = None
    assert fetch_url(publisher.url, SHA256).read_bytes() == CONTENT
    assert publisher.asked[-1] == "bytes=8000-"
    assert left_over() == ["set.zip"]


def test_a_server_that_ignores_ranges_sends_the_whole(publisher: Publisher) -> None:
    publisher.etag, publisher.ranges, publisher.cut_at, publisher.then = '"one"', False, 4000, {"cut_at": None}
    assert fetch_url(publisher.url, SHA256).read_bytes() == CONTENT
    assert publisher.asked == [None, "bytes=4000-"]


def test_without_a_strong_tag_nothing_is_continued(publisher: Publisher) -> None:
    publisher.etag, publisher.cut_at, publisher.then = 'W/"weak"', 4000, {"cut_at": None}
    assert fetch_url(publisher.url, SHA256).read_bytes() == CONTENT
    assert publisher.asked == [None, None]


@pytest.mark.parametrize("tag", ['"two"', '"one"'])
def test_a_file_that_changes_between_is_never_mixed(publisher: Publisher, tag: str) -> None:
    """With a new tag the server sends it whole; with the old one only the checksum tells, and a whole fetch mends."""
    publisher.content, publisher.etag, publisher.cut_at = b"x" * len(CONTENT), '"one"', 4000
    publisher.then = {"content": CONTENT, "etag": tag, "cut_at": None}
    assert fetch_url(publisher.url, SHA256).read_bytes() == CONTENT
    assert publisher.asked == [None, "bytes=4000-"] + ([None] if tag == '"one"' else [])
    assert left_over() == ["set.zip"]


def test_a_part_longer_than_the_file_is_begun_anew(publisher: Publisher) -> None:
    publisher.etag = '"one"'
    downloads_path().mkdir(parents=True)
    (downloads_path() / ".set.zip.part").write_bytes(CONTENT)
    (downloads_path() / ".set.zip.part.tag").write_text('{"url": "elsewhere", "tag": "x"}', "utf-8")
    assert fetch_url(publisher.url, SHA256).read_bytes() == CONTENT
    assert publisher.asked == [None]


@pytest.mark.parametrize(("lie_bytes", "error"), [(100, UnreachableError), (-100, ChecksumError)])
def test_a_server_that_lies_about_the_length(publisher: Publisher, lie_bytes: int, error: type[Exception]) -> None:
    publisher.lie_bytes = lie_bytes
    with pytest.raises(error):
        fetch_url(publisher.url, SHA256)
    assert left_over() == []


def test_a_full_disk_is_named_and_the_part_is_kept(publisher: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    publisher.etag = '"one"'

    def full(number: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(transfer.os, "fsync", full)
        with pytest.raises(ArtifactError, match="disk is full") as caught:
            fetch_url(publisher.url, SHA256)
    assert caught.value.got == f"{len(CONTENT)} bytes written"
    assert ".set.zip.part" in left_over()


def test_without_a_published_checksum_the_first_fetch_is_the_measure(publisher: Publisher) -> None:
    path = fetch_url(publisher.url)
    assert left_over() == ["set.zip", "set.zip.sha256"]
    assert fetch_url(publisher.url) == path
    assert len(publisher.requests) == 1
    path.write_bytes(b"damaged")
    assert fetch_url(publisher.url).read_bytes() == CONTENT


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
