from __future__ import annotations

import dataclasses
from typing import get_args

import numpy as np
import pytest

from lorefuse.config import Arm, FeatureConfig
from lorefuse.core.schema import Split
from lorefuse.features import arms
from lorefuse.features.arms import with_knowledge
from lorefuse.features.interest import InterestStates
from lorefuse.features.prior import prior_columns
from lorefuse.features.rows import multi_offsets
from lorefuse.training_set.arrays import TrainingSet
from tests.helpers.training_rows import make_training_set

CONFIG = FeatureConfig()
ARMS: tuple[Arm, ...] = get_args(Arm)
KNOWLEDGE = {"spec", "item_text", "item_graph", "user_interest", "item_numeric", "item_numeric_now"}
"""What an arm may change; of the item numerics only the last column, the prior."""


def _sorted_rows(vectors: np.ndarray) -> np.ndarray:
    return vectors[np.lexsort(vectors.T)]


def _arrays(training_set: TrainingSet) -> dict[str, np.ndarray]:
    return {f.name: getattr(training_set, f.name) for f in dataclasses.fields(training_set) if f.name != "spec"}


def test_real_is_the_set_itself() -> None:
    training_set = make_training_set()
    assert with_knowledge(training_set, "real", CONFIG) is training_set


@pytest.mark.parametrize("arm", [arm for arm in ARMS if arm != "real"])
def test_only_what_is_made_of_knowledge_changes(arm: Arm) -> None:
    training_set = make_training_set()
    other = with_knowledge(training_set, arm, CONFIG)
    other.check()
    for name, array in _arrays(training_set).items():
        if name not in KNOWLEDGE:
            np.testing.assert_array_equal(getattr(other, name), array, err_msg=name)
    np.testing.assert_array_equal(other.item_numeric[:, :3], training_set.item_numeric[:, :3])
    np.testing.assert_array_equal(other.item_numeric_now[:, :3], training_set.item_numeric_now[:, :3])
    assert not np.array_equal(other.item_numeric[:, 3], training_set.item_numeric[:, 3])


def test_an_arm_given_the_real_vectors_is_the_real_one() -> None:
    """Of a set with text alone, `text_only` makes everything anew: the very bits of the real one."""
    training_set = make_training_set(graph_dim=0)
    same = with_knowledge(training_set, "text_only", CONFIG)
    assert same.spec == training_set.spec
    for name, array in _arrays(training_set).items():
        np.testing.assert_array_equal(getattr(same, name), array, err_msg=name)


def test_none_has_no_knowledge_and_no_interest() -> None:
    none = with_knowledge(make_training_set(), "none", CONFIG)
    assert (none.spec.text_dim, none.spec.graph_dim, none.spec.interest) == (0, 0, ())
    assert none.item_text.shape[1] == none.item_graph.shape[1] == none.user_interest.shape[1] == 0


def test_shuffled_moves_whole_items() -> None:
    training_set = make_training_set()
    shuffled = with_knowledge(training_set, "shuffled", CONFIG)
    both = np.concatenate([training_set.item_text, training_set.item_graph], axis=1)
    moved = np.concatenate([shuffled.item_text, shuffled.item_graph], axis=1)
    assert not np.array_equal(both, moved)
    np.testing.assert_array_equal(_sorted_rows(both), _sorted_rows(moved))  # text and graph of an item stay together
    assert shuffled.spec == training_set.spec


def test_random_vectors_have_the_same_scale_and_no_meaning() -> None:
    training_set = make_training_set()
    scaled = dataclasses.replace(training_set, item_text=training_set.item_text * np.float32([0.2, 1, 2, 4]))
    random = with_knowledge(scaled, "random", CONFIG)
    ratio = random.item_text.std(0) / scaled.item_text.std(0)
    assert ((ratio > 0.5) & (ratio < 2)).all()
    np.testing.assert_allclose(np.linalg.norm(random.item_graph, axis=1), 1, rtol=1e-6)
    assert random.spec == scaled.spec
    assert not np.array_equal(_sorted_rows(random.item_text), _sorted_rows(scaled.item_text))


@pytest.mark.parametrize("arm", ["shuffled", "random"])
def test_draws_differ_by_seed_and_repeat_by_seed(arm: Arm) -> None:
    training_set = make_training_set()
    one, again, other = (with_knowledge(training_set, arm, CONFIG, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.item_text, again.item_text)
    np.testing.assert_array_equal(one.user_interest, again.user_interest)
    assert not np.array_equal(one.item_text, other.item_text)


@pytest.mark.parametrize(("arm", "gone"), [("text_only", "item_graph"), ("graph_only", "item_text")])
def test_one_kind_alone(arm: Arm, gone: str) -> None:
    training_set = make_training_set()
    other = with_knowledge(training_set, arm, CONFIG)
    kept = {"item_graph": "item_text", "item_text": "item_graph"}[gone]
    assert getattr(other, gone).shape[1] == 0
    np.testing.assert_array_equal(getattr(other, kept), getattr(training_set, kept))
    assert {facet.against.value for facet in other.spec.interest} == {kept}


def test_categories_are_centred_flags() -> None:
    training_set = make_training_set()
    bare = dataclasses.replace(training_set, item_multi=training_set.item_multi.copy())
    bare.item_multi[7], bare.item_fields[7, 1:] = 0, 0
    vectors = with_knowledge(bare, "categories", CONFIG).item_text
    assert vectors.shape == (len(bare.item_fields), 4 + 3)  # genres and decades, without their unseen index
    assert not vectors[7].any()  # an item without categories has no vector
    train_items = np.unique(bare.item_row[bare.rows_of(Split.TRAIN)])
    flags = prior_columns(
        vectors[:, :0], vectors[:, :0], bare.item_multi, bare.item_fields[:, 1:], multi_offsets(bare.spec), (4,)
    )
    np.testing.assert_allclose(vectors[3], flags[3] - flags[train_items].mean(0), rtol=1e-6)
    # the genres of item 3 are 2 alone (its second is padding), its decade is what the table says
    expected = np.zeros(7)
    expected[1] = 1
    if bare.item_fields[3, 1]:
        expected[4 + bare.item_fields[3, 1] - 1] = 1
    np.testing.assert_array_equal(flags[3], expected)


@pytest.mark.parametrize("kind", ["binary", "regression"])
@pytest.mark.parametrize("arm", [arm for arm in ARMS if arm != "real"])
def test_labels_outside_train_change_no_feature(arm: Arm, kind: str) -> None:
    training_set = make_training_set(label_kind=kind)
    rows = np.concatenate([training_set.rows_of(Split.VALIDATION), training_set.rows_of(Split.TEST)])
    label, value = training_set.label.copy(), training_set.value.copy()
    label[rows], value[rows] = label.max() + label.min() - label[rows], 6 - value[rows]
    flipped = dataclasses.replace(training_set, label=label, value=value)
    one, other = with_knowledge(training_set, arm, CONFIG), with_knowledge(flipped, arm, CONFIG)
    assert one.spec == other.spec
    for name, array in _arrays(one).items():
        if name not in ("label", "value"):
            np.testing.assert_array_equal(getattr(other, name), array, err_msg=name)


def test_a_label_within_train_does_change_features() -> None:
    """The test above would pass on features that hold nothing."""
    training_set = make_training_set()
    rows = training_set.rows_of(Split.TRAIN)
    label = training_set.label.copy()
    label[rows] = 1 - label[rows]
    one = with_knowledge(training_set, "shuffled", CONFIG)
    other = with_knowledge(dataclasses.replace(training_set, label=label), "shuffled", CONFIG)
    assert not np.array_equal(one.user_interest, other.user_interest)
    assert not np.array_equal(one.item_numeric, other.item_numeric)


def test_states_that_are_made_when_asked_for_are_those_of_an_array(monkeypatch: pytest.MonkeyPatch) -> None:
    training_set = make_training_set()
    held = with_knowledge(training_set, "shuffled", CONFIG)
    monkeypatch.setattr(arms, "MAX_HELD_BYTES", 0)
    promised = with_knowledge(training_set, "shuffled", CONFIG)
    assert isinstance(held.user_interest, np.ndarray)
    assert isinstance(promised.user_interest, InterestStates)
    np.testing.assert_allclose(np.asarray(promised.user_interest), held.user_interest, atol=1e-5)
