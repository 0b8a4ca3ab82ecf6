"""The cache: only misses are encoded, damage heals, writers do not disturb each other."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorefuse.core.errors import ArtifactError
from lorefuse.embedding.cache import EmbeddingCache

DIM = 4


def vectors_of(texts: list[str]) -> np.ndarray:
    return np.array([[len(text), sum(map(ord, text)) % 97, 1, -1] for text in texts], dtype=np.float32)


@pytest.fixture
def cache(tmp_path: Path) -> EmbeddingCache:
    return EmbeddingCache(tmp_path / "cache" / "embeddings.sqlite", "space", DIM)


def test_round_trip_with_misses_repeats_and_unicode(cache: EmbeddingCache) -> None:
    known = ["a", "Amélie", "浪漫", "\ud800 lone surrogate"]
    cache.put(known, vectors_of(known))
    asked = ["Amélie", "new", "浪漫", "Amélie", "\ud800 lone surrogate"]
    vectors, found = cache.get(asked)
    assert found.tolist() == [True, False, True, True, True]
    np.testing.assert_array_equal(vectors[found], vectors_of([asked[0], *asked[2:]]))
    assert not vectors[1].any()


def test_spaces_are_apart(cache: EmbeddingCache) -> None:
    cache.put(["a"], vectors_of(["a"]))
    _, found = EmbeddingCache(cache.path, "another space", DIM).get(["a"])
    assert not found.any()


@settings(max_examples=50)
@given(a=st.text(), b=st.text())
def test_addresses_are_equal_for_equal_texts_alone(a: str, b: str) -> None:
    cache = EmbeddingCache(Path("never-made"), "space", DIM)
    assert (cache.address(a) == cache.address(b)) == (a == b)


def test_a_damaged_vector_counts_as_missing_and_is_replaced(cache: EmbeddingCache) -> None:
    texts = ["a", "b", "c"]
    cache.put(texts, vectors_of(texts))
    with sqlite3.connect(cache.path) as connection:
        update = "UPDATE vectors SET vector = ? WHERE address = ?"
        connection.execute(update, (b"\0" * 16, cache.address("a")))
        connection.execute(update, (b"short", cache.address("b")))
    connection.close()
    assert cache.get(texts)[1].tolist() == [False, False, True]
    cache.put(["a", "b"], vectors_of(["a", "b"]))
    assert cache.get(texts)[1].all()


@pytest.mark.parametrize("damage", ["rubbish", "cut", "zeroed middle"])
def test_a_damaged_file_is_set_aside(cache: EmbeddingCache, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    texts = [f"text {number}" for number in range(2000)]
    cache.put(texts, vectors_of(texts))
    content = bytearray(cache.path.read_bytes())
    if damage == "rubbish":
        content[:] = b"not a database" * 100
    elif damage == "cut":
        del content[len(content) // 2 :]
    else:
        content[4096:-4096] = bytes(len(content) - 8192)
    cache.path.write_bytes(content)
    vectors, found = cache.get(texts)
    assert not found.all()
    np.testing.assert_array_equal(vectors[found], vectors_of(texts)[found])
    cache.put(texts, vectors_of(texts))
    assert cache.get(texts)[1].all()
    assert "set aside" in caplog.text


def test_an_unusable_place_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ArtifactError, match="cannot be used") as caught:
        EmbeddingCache(tmp_path / "file" / "embeddings.sqlite", "space", DIM).get(["a"])
    assert "fix:" in str(caught.value)


def _write(path: Path, first: int) -> None:
    cache = EmbeddingCache(path, "space", DIM)
    for start in range(first, first + 200, 20):
        texts = [f"text {number}" for number in range(start, start + 20)]
        cache.put(texts, vectors_of(texts))


def test_writers_at_the_same_time_lose_nothing(cache: EmbeddingCache) -> None:
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_write, args=(cache.path, first)) for first in (0, 100, 200)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    texts = [f"text {number}" for number in range(400)]
    vectors, found = cache.get(texts)
    assert found.all()
    np.testing.assert_array_equal(vectors, vectors_of(texts))


def _die_while_writing(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("INSERT INTO vectors VALUES (x'00', 0, x'00')")
    os.kill(os.getpid(), 9)


def test_a_killed_writer_leaves_no_trace(cache: EmbeddingCache) -> None:
    cache.put(["a"], vectors_of(["a"]))
    writer = multiprocessing.get_context("fork").Process(target=_die_while_writing, args=(cache.path,))
    writer.start()
    writer.join(60)
    assert writer.exitcode == -9
    cache.put(["b"], vectors_of(["b"]))
    assert cache.get(["a", "b"])[1].all()
    with sqlite3.connect(cache.path) as connection:
        assert connection.execute("SELECT count(*) FROM vectors").fetchone() == (2,)
    connection.close()
