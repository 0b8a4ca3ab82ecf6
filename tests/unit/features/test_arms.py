from __future__ import annotations

import dataclasses
from typing import get_args

import numpy as np
import pytest

from lorefuse.config import Arm, FeatureConfig
from lorefuse.config.learning import NamedArm
from lorefuse.core.schema import Split
from lorefuse.features import arms
from lorefuse.features.arms import with_knowledge
from lorefuse.features.interest import InterestStates
from lorefuse.features.prior import prior_columns
from lorefuse.features.rows import multi_offsets
from lorefuse.training_set.arrays import TrainingSet
from tests.helpers.training_rows import make_training_set

CONFIG = FeatureConfig()
ARMS: tuple[Arm, ...] = get_args(NamedArm)
KNOWLEDGE = {"spec", "knowledge", "user_interest", "item_numeric", "item_numeric_now"}
"""What an arm may change; of the item numerics only the last column, the prior."""


def _sorted_rows(vectors: np.ndarray) -> np.ndarray:
    return vectors[np.lexsort(vectors.T)]


def _arrays(training_set: TrainingSet) -> dict[str, np.ndarray]:
    fields = [f.name for f in dataclasses.fields(training_set) if f.name not in ("spec", "knowledge")]
    return {name: getattr(training_set, name) for name in fields}


def assert_same_knowledge(one: TrainingSet, other: TrainingSet) -> None:
    assert list(one.knowledge) == list(other.knowledge)
    for name, table in one.knowledge.items():
        np.testing.assert_array_equal(other.knowledge[name], table, err_msg=name)


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
    assert_same_knowledge(same, training_set)


def test_none_has_no_knowledge_and_no_interest() -> None:
    none = with_knowledge(make_training_set(), "none", CONFIG)
    assert (none.spec.knowledge, none.spec.interest) == ((), ())
    assert (none.knowledge, none.user_interest.shape[1]) == ({}, 0)


def test_shuffled_moves_whole_items() -> None:
    training_set = make_training_set()
    shuffled = with_knowledge(training_set, "shuffled", CONFIG)
    both = np.concatenate([training_set.knowledge["text"], training_set.knowledge["graph"]], axis=1)
    moved = np.concatenate([shuffled.knowledge["text"], shuffled.knowledge["graph"]], axis=1)
    assert not np.array_equal(both, moved)
    np.testing.assert_array_equal(_sorted_rows(both), _sorted_rows(moved))  # text and graph of an item stay together
    assert shuffled.spec == training_set.spec


def test_random_vectors_have_the_same_scale_and_no_meaning() -> None:
    training_set = make_training_set()
    text = training_set.knowledge["text"] * np.float32([0.2, 1, 2, 4])
    scaled = dataclasses.replace(training_set, knowledge={**training_set.knowledge, "text": text})
    random = with_knowledge(scaled, "random", CONFIG)
    ratio = random.knowledge["text"].std(0) / scaled.knowledge["text"].std(0)
    assert ((ratio > 0.5) & (ratio < 2)).all()
    np.testing.assert_allclose(np.linalg.norm(random.knowledge["graph"], axis=1), 1, rtol=1e-6)
    assert random.spec == scaled.spec
    assert not np.array_equal(_sorted_rows(random.knowledge["text"]), _sorted_rows(scaled.knowledge["text"]))


@pytest.mark.parametrize("arm", ["shuffled", "random"])
def test_draws_differ_by_seed_and_repeat_by_seed(arm: Arm) -> None:
    training_set = make_training_set()
    one, again, other = (with_knowledge(training_set, arm, CONFIG, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.knowledge["text"], again.knowledge["text"])
    np.testing.assert_array_equal(one.user_interest, again.user_interest)
    assert not np.array_equal(one.knowledge["text"], other.knowledge["text"])


@pytest.mark.parametrize(("arm", "gone"), [("text_only", "graph"), ("graph_only", "text")])
def test_one_kind_alone(arm: Arm, gone: str) -> None:
    training_set = make_training_set()
    other = with_knowledge(training_set, arm, CONFIG)
    kept = {"graph": "text", "text": "graph"}[gone]
    assert list(other.knowledge) == [kept]
    np.testing.assert_array_equal(other.knowledge[kept], training_set.knowledge[kept])
    assert {facet.against for facet in other.spec.interest} == {f"item_{kept}"}


@pytest.mark.parametrize("arm", ["shuffled", "random", "sound_only"])
def test_a_block_of_ones_own_is_in_every_arm(arm: Arm) -> None:
    training_set = make_training_set(sound_dim=2)
    other = with_knowledge(training_set, arm, CONFIG)
    other.check()
    assert other.spec.knowledge_tensors == (
        ("item_sound",) if arm == "sound_only" else training_set.spec.knowledge_tensors
    )
    assert [facet.name for facet in other.spec.interest][-2:] == ["liked_sound", "centred_sound"]
    assert np.array_equal(other.knowledge["sound"], training_set.knowledge["sound"]) == (arm == "sound_only")


def test_categories_are_centred_flags() -> None:
    training_set = make_training_set()
    bare = dataclasses.replace(training_set, item_multi=training_set.item_multi.copy())
    bare.item_multi[7], bare.item_fields[7, 1:] = 0, 0
    vectors = with_knowledge(bare, "categories", CONFIG).knowledge["text"]
    assert vectors.shape == (len(bare.item_fields), 4 + 3)  # genres and decades, without their unseen index
    assert not vectors[7].any()  # an item without categories has no vector
    train_items = np.unique(bare.item_row[bare.rows_of(Split.TRAIN)])
    flags = prior_columns((), bare.item_multi, bare.item_fields[:, 1:], multi_offsets(bare.spec), (4,))
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
    assert_same_knowledge(one, other)


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
