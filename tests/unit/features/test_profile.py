"""The profile facet: the store's bits are memory's, causal, and only text arms have it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from lorefuse.core.errors import ArtifactError, LeakError
from lorefuse.core.schema import EVENT_TIMESTAMP, SPLIT, USER_ID
from lorefuse.data.split import load_split
from lorefuse.feature_store.retrieve import retrieve_training_set
from lorefuse.feature_store.store import apply_and_materialize
from lorefuse.features.aggregates import unit_rows
from lorefuse.features.arms import with_knowledge
from lorefuse.features.build import build_feature_data, history_of
from lorefuse.features.interactions import InteractionRows
from lorefuse.features.profile import PROFILE_FACET, profile_snapshots
from lorefuse.features.rows import Interactions, user_interest_rows
from lorefuse.knowledge.profile import profile_texts
from lorefuse.study.leak import check_leaks
from lorefuse.training_set.arrays import TrainingSet
from lorefuse.training_set.vectors import ItemVectors
from tests.helpers.feature_world import CONFIG, World, make_world

KAPPA = CONFIG.features.interest_shrinkage


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    path = tmp_path_factory.mktemp("profile")
    plain = make_world(path, strategy="per_user_time")
    rows, _ = profile_texts(plain.dataset, load_split(plain.split_path)[0], 5, "liked@1")
    rng = np.random.default_rng(0)
    order = rng.permutation(len(rows))  # nothing may hang on how they lie in the file
    vectors = dataclasses.replace(
        plain.vectors,
        profile=rng.standard_normal((len(rows), 4)).astype(np.float32),
        profile_row=rows[order],
    )
    (path / "with_profile").mkdir()
    build_feature_data(plain.dataset, plain.split_path, vectors, CONFIG, path / "with_profile")
    return World(plain.dataset, plain.split_path, vectors, path / "with_profile")


@pytest.fixture(scope="module")
def training_set(world: World, tmp_path_factory: pytest.TempPathFactory) -> TrainingSet:
    path = tmp_path_factory.mktemp("rows")
    for name in ("store", "rows"):
        (path / name).mkdir()
    apply_and_materialize(world.feature_data_path, path / "store")
    retrieve_training_set(
        world.dataset, world.split_path, world.vectors, world.feature_data_path, path / "store", path / "rows"
    )
    return TrainingSet.load(path / "rows")


def profile_rows(history: Interactions, vectors: ItemVectors, shrinkage: float) -> np.ndarray:
    """Return the user's side as of every row, (R, E): the last snapshot strictly before; zeros where there is none."""
    blocks = profile_snapshots(history, vectors, shrinkage)
    state = np.concatenate([np.zeros((len(next(iter(blocks.values()), ())), 0), np.float32), *blocks.values()], axis=1)
    causal = history.user_order
    is_snapshot = np.zeros(len(causal.order), dtype=bool)
    is_snapshot[history.user_order.snapshot_rows(history.is_train)] = True
    # Snapshot rows stand in causal order, so a count of those before a place is the number of the next.
    num_before = np.concatenate([[0], np.cumsum(is_snapshot[causal.order])])
    last, first = num_before[causal.block_start], num_before[causal.group_start]
    result = np.zeros((len(causal.order), state.shape[1]), dtype=np.float32)
    known = last > first
    result[causal.order[known]] = state[last[known] - 1]
    return result


def test_the_join_gives_the_bits_of_memory(world: World, training_set: TrainingSet) -> None:
    history = history_of(InteractionRows.of(world.dataset, load_split(world.split_path)[0]), "binary")
    plain = user_interest_rows(history, world.vectors.knowledge, KAPPA)
    profile = profile_rows(history, world.vectors, KAPPA)
    np.testing.assert_array_equal(training_set.user_interest, np.concatenate([plain, profile], axis=1))
    assert [facet.name for facet in training_set.spec.interest][-1] == PROFILE_FACET
    assert 0.3 < profile.any(1).mean() < 1  # first rows know nothing


def test_a_row_has_the_last_profile_strictly_before(world: World, training_set: TrainingSet) -> None:
    """By a loop over rows, from the raw tables alone."""
    events = world.dataset.interactions()
    train = load_split(world.split_path)[0][SPLIT].eq("train").to_numpy()
    stamps, users = events[EVENT_TIMESTAMP].to_numpy(), events[USER_ID].to_numpy()
    profile, of_row = world.vectors.profile, world.vectors.profile_row
    for row in range(0, len(events), 5):
        mine = of_row[(users[of_row] == users[row]) & (stamps[of_row] < stamps[row])]
        found = training_set.user_interest[row, -4:]
        if not len(mine):
            assert not found.any()
            continue
        last = mine[stamps[mine].argmax()]
        count = int((train & (users == users[row]) & (stamps < stamps[row])).sum())
        unit = unit_rows(profile[of_row == last])[0]
        np.testing.assert_allclose(found, unit * count / (count + KAPPA), rtol=1e-6)


@pytest.mark.parametrize("arm", ["real", "none", "categories", "shuffled", "random", "text_only", "graph_only"])
def test_only_arms_with_the_items_own_text_keep_it(training_set: TrainingSet, arm: str) -> None:
    given = with_knowledge(training_set, arm, CONFIG.features)
    given.check()
    names = [facet.name for facet in given.spec.interest]
    assert (PROFILE_FACET in names) == (arm in ("real", "text_only"))
    if PROFILE_FACET in names:
        np.testing.assert_array_equal(given.user_interest[:, -4:], training_set.user_interest[:, -4:])


def test_profiles_of_other_rows_are_refused(world: World, tmp_path: Path) -> None:
    fewer = dataclasses.replace(
        world.vectors, profile=world.vectors.profile[1:], profile_row=world.vectors.profile_row[1:]
    )
    with pytest.raises(ArtifactError, match="other train rows"):
        build_feature_data(world.dataset, world.split_path, fewer, CONFIG, tmp_path)


def test_the_leak_check_finds_a_profile_of_a_test_row(world: World, tmp_path: Path) -> None:
    parts, facts = load_split(world.split_path)
    late = np.flatnonzero(parts[SPLIT].to_numpy() == "test")[0]
    for number, row in enumerate((world.vectors.profile_row[0], late)):
        path = tmp_path / str(number)
        path.mkdir()
        rows = np.r_[row, world.vectors.profile_row[1:]]
        facts_of = {"data_cutoff": facts["data_cutoff"]}
        dataclasses.replace(world.vectors, profile_row=rows, facts=facts_of).save(path)
    check_leaks({"split": world.split_path, "item_vectors": tmp_path / "0"})
    with pytest.raises(LeakError, match="not train"):
        check_leaks({"split": world.split_path, "item_vectors": tmp_path / "1"})
