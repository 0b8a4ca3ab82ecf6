"""PSI, KS and centroids against numbers worked out by hand, and properties that hold for any sample."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lorefuse.drift.centroid import centroid_shift
from lorefuse.drift.statistics import Binned, bin_categories, bin_numeric, ks, psi, psi_by_chance

SAMPLES = arrays(np.float64, st.integers(5, 60), elements=st.floats(-100, 100, width=32))
CATEGORIES = arrays(np.int64, st.integers(5, 60), elements=st.integers(0, 30))


def _swap(binned: Binned) -> Binned:
    return Binned(binned.labels, binned.fresh, binned.reference, binned.num_fresh, binned.num_reference)


def test_psi_of_known_bins() -> None:
    binned = Binned(("a", "b"), np.array([0.5, 0.5]), np.array([0.25, 0.75]), 100, 100)
    by_hand = (0.25 - 0.5) * math.log(0.25 / 0.5) + (0.75 - 0.5) * math.log(0.75 / 0.5)
    assert psi(binned) == pytest.approx(by_hand) == pytest.approx(0.2746530721670274)


def test_psi_of_an_empty_bin_stays_finite() -> None:
    binned = Binned(("a", "b"), np.array([0.5, 0.5]), np.array([0.0, 1.0]), 10, 10)
    by_hand = (1e-4 - 0.5) * math.log(1e-4 / 0.5) + 0.5 * math.log(2)
    assert psi(binned) == pytest.approx(by_hand)


def test_bins_hold_equal_counts_of_the_reference() -> None:
    binned = bin_numeric(np.arange(100.0), np.arange(50.0), 4)
    assert binned.reference == pytest.approx([0.25] * 4)
    assert binned.fresh == pytest.approx([0.5, 0.5, 0, 0])
    assert binned.labels[0].startswith("−∞ … ")
    assert binned.labels[-1].endswith(" … ∞")


def test_values_outside_of_the_reference_join_the_end_bins() -> None:
    binned = bin_numeric(np.arange(10.0), np.array([-1e9, 1e9]), 2)
    assert binned.fresh == pytest.approx([0.5, 0.5])


def test_a_constant_reference_sees_larger_and_smaller_values() -> None:
    assert psi(bin_numeric(np.full(50, 3.0), np.full(50, 3.0), 10)) == 0
    assert psi(bin_numeric(np.full(50, 3.0), np.full(50, 4.0), 10)) > 5
    assert psi(bin_numeric(np.full(50, 3.0), np.full(50, 2.0), 10)) > 5


def test_rare_categories_are_counted_together() -> None:
    reference = np.repeat(np.arange(40), np.r_[[10] * 20, [1] * 20])
    binned = bin_categories(reference, np.array([39, 38, 99, 0]))
    assert binned.labels == ("unseen", *(str(n) for n in range(1, 20)), "other")
    assert binned.reference[-1] == pytest.approx(20 / 220)
    assert binned.fresh[-1] == pytest.approx(0.75)
    assert binned.fresh[0] == pytest.approx(0.25)


def test_small_samples_differ_more_by_chance() -> None:
    small = Binned(("a", "b"), np.ones(2) / 2, np.ones(2) / 2, 100, 50)
    large = Binned(("a", "b"), np.ones(2) / 2, np.ones(2) / 2, 10_000, 5_000)
    assert psi_by_chance(small, 0.01) == pytest.approx(6.634896601 * (1 / 100 + 1 / 50))  # χ² of one degree, 1 %
    assert psi_by_chance(large, 0.01) < psi_by_chance(small, 0.01)


def test_samples_of_one_distribution_stay_below_the_level_of_chance() -> None:
    random = np.random.default_rng(0)
    above = 0
    for _ in range(300):
        binned = bin_numeric(random.standard_normal(2000), random.standard_normal(500), 10)
        above += psi(binned) > psi_by_chance(binned, 0.05)
    assert 4 <= above <= 30  # 15 of 300 are expected


def test_ks_by_hand() -> None:
    distance, p_value = ks(np.array([1.0, 2, 3, 4]), np.array([3.0, 4, 5, 6]))
    assert distance == pytest.approx(0.5)  # below 3 lies half of the first and none of the second
    assert 0 < p_value < 1


@settings(deadline=None, max_examples=60)
@given(SAMPLES, st.integers(2, 12))
def test_a_sample_has_not_drifted_from_itself(sample: np.ndarray, num_bins: int) -> None:
    assert psi(bin_numeric(sample, sample, num_bins)) == 0
    assert ks(sample, sample)[0] == 0


@settings(deadline=None, max_examples=60)
@given(SAMPLES, SAMPLES)
def test_numeric_index_is_not_negative_and_symmetric_in_its_bins(first: np.ndarray, second: np.ndarray) -> None:
    binned = bin_numeric(first, second, 5)
    assert binned.reference.sum() == pytest.approx(1)
    assert binned.fresh.sum() == pytest.approx(1)
    assert psi(binned) >= 0
    assert psi(binned) == pytest.approx(psi(_swap(binned)))
    assert ks(first, second)[0] == pytest.approx(ks(second, first)[0])


@settings(deadline=None, max_examples=60)
@given(CATEGORIES, CATEGORIES)
def test_category_shares_add_up(first: np.ndarray, second: np.ndarray) -> None:
    binned = bin_categories(first, second)
    assert binned.reference.sum() == pytest.approx(1)
    assert binned.fresh.sum() == pytest.approx(1)
    assert psi(bin_categories(first, first)) == 0
    assert psi(binned) == pytest.approx(psi(_swap(binned)))


def test_centroids_by_hand() -> None:
    reference = np.tile([[1.0, 0.0]], (20, 1))
    shift = centroid_shift(reference, np.array([[0.0, 2.0], [0.0, 4.0]]), alpha=0.05, num_bootstraps=20, seed=0)
    assert shift.cosine_distance == pytest.approx(1)
    assert shift.shift == pytest.approx(math.sqrt(1 + 9))
    assert shift.by_chance == pytest.approx(0)


def test_centroid_of_the_same_distribution_stays_within_chance() -> None:
    random = np.random.default_rng(1)
    above = 0
    for seed in range(60):
        first, second = random.standard_normal((200, 4)) + 1, random.standard_normal((80, 4)) + 1
        shift = centroid_shift(first, second, alpha=0.05, num_bootstraps=100, seed=seed)
        above += shift.shift > shift.by_chance
    assert above <= 9  # 3 of 60 are expected
    moved = centroid_shift(first, second + 1, alpha=0.05, num_bootstraps=100, seed=0)
    assert moved.relative is not None
    assert moved.relative > 3


def test_centroid_of_itself_has_not_moved() -> None:
    vectors = np.random.default_rng(2).standard_normal((30, 3)).astype(np.float32)
    shift = centroid_shift(vectors, vectors, alpha=0.01, num_bootstraps=50, seed=0)
    assert shift.shift == 0
    assert shift.cosine_distance == pytest.approx(0, abs=1e-12)
    assert shift == centroid_shift(vectors, vectors, alpha=0.01, num_bootstraps=50, seed=0)
