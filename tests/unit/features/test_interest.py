"""States that are made when asked for are those that stand in a file, in memory that does not grow with the rows."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from lorefuse.features import interest as module
from lorefuse.features.interest import InterestStates
from lorefuse.features.rows import History, user_interest_rows

KAPPA, WIDTH = 5.0, 300


def _history(num_rows: int) -> History:
    rng = np.random.default_rng(3)
    num_users, num_items = num_rows // 10, 50
    return History.of(
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


@pytest.mark.parametrize("widths", [(6, 3), (0, 4), (0, 0)])
def test_equal_to_the_states_of_all_rows(widths: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "VALUES_AT_A_TIME", 100)
    monkeypatch.setattr(module, "COLUMNS_AT_A_TIME", 2)
    history, blocks = _history(400), [_vectors(width) for width in widths]
    more = np.random.default_rng(5).random((400, 2)).astype(np.float32)
    states = InterestStates.of(history, blocks, KAPPA, more)
    expected = np.concatenate([user_interest_rows(history, *blocks, KAPPA), more], axis=1)
    assert (states.shape, len(states)) == (expected.shape, 400)
    np.testing.assert_allclose(np.asarray(states), expected, atol=1e-6)
    some = np.array([7, 7, 399, 0])
    np.testing.assert_allclose(states[some], expected[some], atol=1e-6)
    np.testing.assert_allclose(states[3:9, 1:2], expected[3:9, 1:2], atol=1e-6)
    for number in range(len(states.vectors)):
        first = sum(2 * v.shape[1] for v in states.vectors[:number])
        found = np.full((400, 2 * states.vectors[number].shape[1]), np.nan, np.float32)
        for rows, values in states.parts(number):
            found[rows] = values
        np.testing.assert_array_equal(found, expected[:, first : first + found.shape[1]])  # to the bit


def test_memory_follows_the_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lorefuse.features.causal.PART_VALUES", 1 << 18)
    peaks = []
    for num_rows in (4_000, 16_000):
        states = InterestStates.of(_history(num_rows), [_vectors(WIDTH)], KAPPA, np.zeros((num_rows, 0), np.float32))
        tracemalloc.start()
        for _ in states.parts(0):
            pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    more_rows = 12_000
    assert (peaks[1] - peaks[0]) / more_rows < 200  # bytes a row, of the order of the rows: a state has 2,400
