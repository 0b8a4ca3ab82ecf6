"""States that are made when asked for are those that stand in a file, in memory that does not grow with the rows."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from lorefuse.features import interest as module
from lorefuse.features.interest import InterestStates
from lorefuse.features.rows import Interactions, user_interest_rows

KAPPA, WIDTH = 5.0, 300


def _history(num_rows: int) -> Interactions:
    rng = np.random.default_rng(3)
    num_users, num_items = num_rows // 10, 50
    return Interactions.of(
        rng.integers(0, num_users, num_rows).astype(np.int32),
        rng.integers(0, num_items, num_rows).astype(np.int32),
        rng.integers(0, num_rows // 2, num_rows),  # some moments hold several rows
        rng.integers(0, 2, num_rows).astype(np.float32),
        rng.integers(1, 6, num_rows).astype(np.float32),
        rng.random(num_rows) < 0.8,
        "binary",
    )


def _vectors(width: int) -> np.ndarray:
    vectors = np.random.default_rng(4).standard_normal((50, width)).astype(np.float32)
    vectors[::7] = 0  # items without any
    return vectors


@pytest.mark.parametrize("rows_at_a_time", [3, 64])
@pytest.mark.parametrize("widths", [(6, 3), (0, 4), (0, 0)])
def test_equal_to_the_states_of_all_rows(
    widths: tuple[int, int], rows_at_a_time: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "VALUES_AT_A_TIME", 100)
    monkeypatch.setattr(module, "COLUMNS_AT_A_TIME", 2)
    monkeypatch.setattr(module, "ROWS_AT_A_TIME", rows_at_a_time)
    history, blocks = _history(400), [_vectors(width) for width in widths]
    more = np.random.default_rng(5).random((400, 2)).astype(np.float32)
    states = InterestStates.of(history, blocks, KAPPA, more)
    expected = np.concatenate([user_interest_rows(history, dict(enumerate(blocks)), KAPPA), more], axis=1)
    assert (states.shape, len(states)) == (expected.shape, 400)
    np.testing.assert_allclose(np.asarray(states), expected, atol=1e-6)
    some = np.array([7, 7, 399, 0])
    np.testing.assert_allclose(states[some], expected[some], atol=1e-6)
    np.testing.assert_allclose(states[3:9, 1:2], expected[3:9, 1:2], atol=1e-6)
    state, item = np.random.default_rng(6).integers(0, [[400], [50]], (2, 3_000))
    for number, vectors in enumerate(states.vectors):
        first, dim = sum(2 * v.shape[1] for v in states.vectors[:number]), vectors.shape[1]
        unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        sides = [expected[:, start : start + dim] for start in (first, first + dim)]
        wanted = np.stack([(side[state] * unit[item]).sum(1) for side in sides], axis=1)
        np.testing.assert_allclose(states.products(number, state, item), wanted, atol=1e-5)


def test_memory_follows_the_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "VALUES_AT_A_TIME", 1 << 16)
    peaks = []
    for num_rows in (4_000, 16_000):
        states = InterestStates.of(_history(num_rows), [_vectors(WIDTH)], KAPPA, np.zeros((num_rows, 0), np.float32))
        tracemalloc.start()
        states.products(0, np.arange(num_rows), states.history.item_row)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    more_rows = 12_000
    assert (peaks[1] - peaks[0]) / more_rows < 300  # bytes a row, for its places and sums: a state takes 2,400
