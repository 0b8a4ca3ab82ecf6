"""Moments inside the train part, and a ranker that learns from them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lorefuse.config import TrainingConfig
from lorefuse.config.candidates import CandidatesConfig
from lorefuse.core.schema import SPLIT_CODES, Split
from lorefuse.lists.fit import fit, make_tables, taken_in_train, unfitted
from lorefuse.lists.knowledge import ItemKnowledge
from lorefuse.lists.lessons import NUM_FOLDS, Lessons, make_lessons, of_others, train_moments
from lorefuse.lists.list_ranker import list_loss, train_list_ranker
from lorefuse.lists.moments import Moments, moments_of
from lorefuse.lists.order import look, ranked_ndcg
from lorefuse.lists.ranking import TorchRanking
from lorefuse.lists.stage_files import Fitted
from lorefuse.lists.tables import collaborative_tables
from lorefuse.models.build import build_ranker
from lorefuse.models.ranker import Ranker
from lorefuse.training_set.arrays import TrainingSet
from tests.helpers.taste_rows import NUM_ITEMS, NUM_NEW, make_taste_set, small_lists_config

CONFIG = CandidatesConfig(num_candidates=30, num_neighbours=20, views=("item_knn",), ranker="list")


@pytest.fixture(scope="module")
def taste() -> TrainingSet:
    return make_taste_set()


@pytest.fixture(scope="module")
def validation(taste: TrainingSet) -> Moments:
    return moments_of(taste, Split.VALIDATION, 50)


def blend(taste: TrainingSet, validation: Moments) -> Fitted:
    taken = taken_in_train(taste)
    tables = make_tables(collaborative_tables(taken, CONFIG), ItemKnowledge.of(taken, {}, CONFIG), CONFIG)
    return fit(unfitted(tables, taken, CONFIG, 10, "binary"), validation, CONFIG, 0)


def lessons_of(taste: TrainingSet, validation: Moments) -> Lessons | None:
    taken = taken_in_train(taste)
    folds = [collaborative_tables(of_others(taken, fold), CONFIG) for fold in range(NUM_FOLDS)]
    return make_lessons(blend(taste, validation), taste, taken, folds, {}, CONFIG, 0.5, like=validation, seed=0)


def test_moments_know_what_came_before_and_look_for_what_came_after(taste: TrainingSet, validation: Moments) -> None:
    moments = train_moments(taste, validation, 200, 50, 0.5, seed=0)
    train = taste.split_code == SPLIT_CODES[Split.TRAIN]
    assert len(moments) > 100
    for number in range(0, len(moments), 7):
        user, state = moments.users[number], moments.states[number]
        mine = train & (taste.user_row == user)
        before = set(taste.item_row[mine & (taste.timestamp_us < taste.timestamp_us[state])].tolist())
        assert set(moments.hidden[number].tolist()) == before
        wanted = moments.all[[number]].indices
        assert len(wanted)
        assert not before & set(wanted.tolist())
        later = mine & (taste.timestamp_us >= taste.timestamp_us[state]) & (taste.label >= 0.5)
        assert set(wanted.tolist()) <= set(taste.item_row[later].tolist())


def test_few_moments_are_spread_over_users(taste: TrainingSet, validation: Moments) -> None:
    moments = train_moments(taste, validation, 60, 50, 0.5, seed=0)
    assert len(np.unique(moments.users)) == len(moments)


def test_tables_of_a_fold_know_nothing_of_its_users(taste: TrainingSet) -> None:
    taken = taken_in_train(taste)
    for fold in range(NUM_FOLDS):
        others = of_others(taken, fold)
        assert not others[np.arange(others.shape[0]) % NUM_FOLDS == fold].nnz
    assert sum(of_others(taken, fold).nnz for fold in range(NUM_FOLDS)) == (NUM_FOLDS - 1) * taken.nnz


def test_lessons_hold_no_new_item_and_nothing_that_the_user_had(taste: TrainingSet, validation: Moments) -> None:
    lessons = lessons_of(taste, validation)
    assert lessons is not None
    shown = torch.isfinite(lessons.offset)
    assert not (shown & (lessons.rows >= NUM_ITEMS - NUM_NEW)).any()
    torch.testing.assert_close(lessons.share.sum(dim=1), torch.ones(len(lessons)))
    assert shown[lessons.share > 0].all()


def test_items_numbers_leave_out_the_users_own_rows(taste: TrainingSet, validation: Moments) -> None:
    lessons = lessons_of(taste, validation)
    assert lessons is not None
    train = taste.split_code == SPLIT_CODES[Split.TRAIN]
    for fold in range(NUM_FOLDS):
        others = train & (taste.user_row % NUM_FOLDS != fold)
        count = np.bincount(taste.item_row[others], minlength=NUM_ITEMS)
        np.testing.assert_allclose(lessons.item_numeric[fold, :, 0], np.log1p(count), rtol=1e-6)


def test_a_trained_ranker_puts_likes_first_and_repeats_itself(taste: TrainingSet, validation: Moments) -> None:
    blended, lessons = blend(taste, validation), lessons_of(taste, validation)
    assert lessons is not None

    def judge(ranker: Ranker) -> float:
        looked = look(blended, validation)
        ranked = TorchRanking(ranker, taste, validation).matrix(looked.rows)
        return ranked_ndcg(looked, validation, ranked, "binary")

    def trained() -> Ranker:
        ranker = build_ranker(small_lists_config().model, taste.spec, seed=0)
        return train_list_ranker(ranker, taste, lessons, TrainingConfig(learning_rate=0.02, embedding_l2=0.0), judge)

    ranker, again = trained(), trained()
    for one, other in zip(ranker.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    assert not ranker.training


def test_too_few_moments_make_no_lessons(taste: TrainingSet, validation: Moments) -> None:
    taken = taken_in_train(taste)
    folds = [collaborative_tables(of_others(taken, fold), CONFIG) for fold in range(NUM_FOLDS)]
    early = taste.timestamp_us.copy()
    early[:] = 0  # everything at one moment: nobody has a past
    alike = make_taste_set()
    object.__setattr__(alike, "timestamp_us", early)
    assert make_lessons(blend(taste, validation), alike, taken, folds, {}, CONFIG, 0.5, like=validation, seed=0) is None


def test_loss_is_that_of_a_softmax_over_what_may_be_shown() -> None:
    scores = torch.tensor([[0.0, 0.0, -torch.inf], [2.0, 0.0, 0.0]])
    share = torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0]])
    second = -0.5 * (torch.log_softmax(scores[1], 0)[0] + torch.log_softmax(scores[1], 0)[1])
    torch.testing.assert_close(list_loss(scores, share), (torch.tensor(2.0).log() + second) / 2)
