"""Several writers of one file or folder: nobody takes another's draft, and what stands there is whole."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from lorefuse.core.atomic import atomic_file, atomic_folder, write_json


def test_two_threads_in_the_middle_of_the_same_file(tmp_path: Path) -> None:
    target_path, both = tmp_path / "state.json", Barrier(2)

    def write(text: str) -> None:
        with atomic_file(target_path) as draft_path:
            draft_path.write_text(text)
            both.wait(10)  # each holds a finished draft now

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, ["a" * 10, "b" * 1000]))
    assert target_path.read_text() in ("a" * 10, "b" * 1000)
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]


def test_many_threads_leave_one_whole_file(tmp_path: Path) -> None:
    target_path = tmp_path / "state.json"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: write_json(target_path, [number] * 500), range(200)))
    content = json.loads(target_path.read_text("utf-8"))
    assert len(content) == 500
    assert len(set(content)) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]


def test_a_writer_that_fails_leaves_what_stood_there(tmp_path: Path) -> None:
    def write() -> None:
        with atomic_file(tmp_path / "state.json") as draft_path:
            draft_path.write_text("half")
            raise OSError("disk full")

    write_json(tmp_path / "state.json", 1)
    with pytest.raises(OSError, match="disk"):
        write()
    assert json.loads((tmp_path / "state.json").read_text("utf-8")) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]


def test_many_threads_leave_one_whole_folder(tmp_path: Path) -> None:
    target_path = tmp_path / "cache"

    def write(number: int) -> None:
        with atomic_folder(target_path) as draft_path:
            (draft_path / "first").write_text(str(number))
            (draft_path / "second").write_text(str(number))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(400)))
    assert (target_path / "first").read_text() == (target_path / "second").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]
