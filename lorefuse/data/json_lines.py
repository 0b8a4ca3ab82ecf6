"""Files with one JSON object per line, plain or compressed, read as a stream; one that is none goes to quarantine."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lorefuse.core.errors import DataError
from lorefuse.data.delimited import UNREADABLE, open_bytes
from lorefuse.data.quarantine import Quarantine


def read_json_lines(
    path: Path, quarantine: Quarantine, name: str | None = None
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield line number (from 1) and object of every line that holds one.

    Lines of the 2014 Amazon files are Python literals (single quotes), not JSON: they are read as literals alone,
    never evaluated.

    Args:
        path: The file; compressed ones are known by their first bytes, not by their names.
        quarantine: Receives the other lines under the file's name, and the count of lines read.
        name: What the quarantine calls the file; default its name without folders.

    Raises:
        DataError: The file is missing, empty, or one that is damaged or cut short.
    """
    if not path.is_file() or path.stat().st_size == 0:
        raise DataError(
            f"There is no data in {path}.",
            expected="a file with one JSON object per line",
            got="an empty file" if path.is_file() else "no such file",
            fix="correct the path in data.source",
        )
    name, line = name or path.name, 0
    try:
        with open_bytes(path) as stream:
            for line, raw in enumerate(stream, start=1):
                if not raw.strip():
                    continue
                quarantine.num_rows_read[name] += 1
                content, reason = _parse(raw)
                if content is None:
                    quarantine.add(name, line, reason, raw[:500].decode("utf-8", "replace").rstrip())
                else:
                    yield line, content
    except UNREADABLE as error:
        raise DataError(
            f"{path} is damaged or was cut short.",
            expected="a whole compressed file",
            got=f"{error} after line {line}",
            fix="fetch it again",
        ) from None


def _parse(raw: bytes) -> tuple[dict[str, Any] | None, str]:
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None, "not UTF-8"
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        if not text.startswith("{'"):
            return None, "not JSON"
        try:
            content = ast.literal_eval(text.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
            return None, "neither JSON nor a Python literal"
    return (content, "") if isinstance(content, dict) else (None, "not a JSON object")
