"""One file over HTTP into a local part file: continued where it broke off, tried again, and never a mix of two files.

A broken transfer is continued with ``Range`` and ``If-Range`` (RFC 9110, 13.1.5) where the server gave a strong ETag or
a Last-Modified: had the file changed between, the server sends it whole, and the part is begun anew.
"""

from __future__ import annotations

import errno
import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

from lorefuse.core.errors import ArtifactError, UnreachableError
from lorefuse.core.progress import track

if TYPE_CHECKING:
    import requests

TIMEOUT_S = 8.0
"""To connect, and between two pieces of the body."""
NUM_TRIES = 4
BACKOFF_S = 0.5
"""Pause before the second try; it doubles with each further one."""
BLOCK_BYTES = 1 << 16
"""Piece of the body; what a broken connection had sent of its last piece is fetched again."""
GONE = {401: "it wants a login", 403: "it refuses access", 404: "there is no such file", 410: "the file was removed"}


def transfer(url: str, part_path: Path) -> bool:
    """Bring a file to `part_path`, whole by the server's own length.

    What an earlier call left there is continued where the server allows it, else replaced. After an error the part
    stays only where a later call can continue it.

    Args:
        url: Address.
        part_path: File to fill; beside it ``<name>.tag`` remembers which file it is a part of.

    Returns:
        Whether bytes of an earlier try are in it (a wrong checksum then deserves a whole fetch).

    Raises:
        UnreachableError: No such file, no access, or no complete answer in `NUM_TRIES` tries.
        ArtifactError: The disk is full.
    """
    import requests

    tag_path = part_path.with_name(part_path.name + ".tag")
    is_resumed, reason = False, ""
    for attempt in range(NUM_TRIES):
        if attempt:
            time.sleep(BACKOFF_S * 2 ** (attempt - 1))
        try:
            is_resumed = _try(url, part_path, tag_path)
            tag_path.unlink(missing_ok=True)
            return is_resumed
        except (requests.RequestException, EOFError) as error:
            reason = str(error) if isinstance(error, EOFError) else type(error).__name__
            status = getattr(getattr(error, "response", None), "status_code", None)
            reason = f"HTTP {status}" if status else reason
            if _tag(tag_path, url) is None:
                _remove(part_path, tag_path)
            if isinstance(error, requests.ConnectTimeout):
                break  # nobody opens the door: a mirror shall not wait for that four times
            if status in GONE:
                raise UnreachableError(
                    f"{url} does not answer with the file: {GONE[status]}.",
                    expected="HTTP 200",
                    got=reason,
                    fix="look whether the publisher has moved it; a copy of your own can be named by its path",
                ) from error
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise ArtifactError(
                f"The disk is full: {url} does not fit into {part_path.parent}.",
                got=f"{part_path.stat().st_size} bytes written" if part_path.exists() else "nothing written",
                fix="make room and run again (what is there will be continued), or set LOREFUSE_HOME elsewhere",
            ) from error
    raise UnreachableError(
        f"{url} does not answer.",
        expected=f"the whole file within {NUM_TRIES} tries",
        got=reason,
        fix="try again later; what was fetched is continued where the server allows it",
    )


def _try(url: str, part_path: Path, tag_path: Path) -> bool:
    """Ask once; return whether the answer continued the part."""
    import requests

    have_bytes = part_path.stat().st_size if part_path.exists() else 0
    tag = _tag(tag_path, url) if have_bytes else None
    headers = {"Accept-Encoding": "identity"}  # the bytes as published: a .gz must not be unpacked on the way
    if tag:
        headers |= {"Range": f"bytes={have_bytes}-", "If-Range": tag}
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT_S) as answer:
        if answer.status_code == requests.codes.requested_range_not_satisfiable:
            _remove(part_path, tag_path)
            raise EOFError("the part did not fit the file; it is fetched anew")
        answer.raise_for_status()
        is_resumed = answer.status_code == requests.codes.partial_content and _starts_at(answer) == have_bytes
        if answer.status_code == requests.codes.partial_content and not is_resumed:
            _remove(part_path, tag_path)
            raise EOFError("the server sent another piece than was asked for")
        start_bytes = have_bytes if is_resumed else 0
        if not is_resumed:
            _remember(answer, url, tag_path)
        length = answer.headers.get("Content-Length", "")
        total_bytes = start_bytes + int(length) if length.isdigit() else None
        with part_path.open("ab" if is_resumed else "wb") as stream:
            written_bytes = start_bytes + _write(answer, stream, url, total_bytes, start_bytes)
    if total_bytes is not None and written_bytes != total_bytes:
        raise EOFError(f"it ended after {written_bytes} of {total_bytes} bytes")
    return is_resumed


def _write(answer: requests.Response, stream: IO[bytes], url: str, total_bytes: int | None, start_bytes: int) -> int:
    """Write the body, flushed piece by piece; return its length."""
    total = None if total_bytes is None else -(-(total_bytes - start_bytes) // BLOCK_BYTES)
    written_bytes = 0
    pieces: Iterator[bytes] = answer.iter_content(BLOCK_BYTES)
    for piece in track(pieces, f"Fetching {url.rsplit('/', 1)[-1]}", total):
        stream.write(piece)
        stream.flush()
        written_bytes += len(piece)
    os.fsync(stream.fileno())
    return written_bytes


def _starts_at(answer: requests.Response) -> int | None:
    match = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range", ""))
    return int(match[1]) if match else None


def _remember(answer: requests.Response, url: str, tag_path: Path) -> None:
    """Write down which file a part is of; a weak ETag says too little to continue on."""
    etag = answer.headers.get("ETag", "")
    tag = etag if etag.startswith('"') else answer.headers.get("Last-Modified")
    if tag:
        tag_path.write_text(json.dumps({"url": url, "tag": tag}), "utf-8")
    else:
        tag_path.unlink(missing_ok=True)


def _tag(tag_path: Path, url: str) -> str | None:
    try:
        content = json.loads(tag_path.read_text("utf-8"))
        return str(content["tag"]) if content["url"] == url else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _remove(part_path: Path, tag_path: Path) -> None:
    part_path.unlink(missing_ok=True)
    tag_path.unlink(missing_ok=True)
