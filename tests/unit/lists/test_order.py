"""Who orders the candidates, and what the final score says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lorefuse.config.candidates import CandidatesConfig
from lorefuse.core.schema import Split
from lorefuse.lists.fit import fit, make_tables, taken_in_train, unfitted
from lorefuse.lists.judge import make_lists
from lorefuse.lists.knowledge import ItemKnowledge
from lorefuse.lists.moments import Moments, moments_of
from lorefuse.lists.order import IDENTITY, RANKER, RankRows, look, ordered_by, put_in_order
from lorefuse.lists.stage_files import Fitted
from lorefuse.lists.tables import collaborative_tables
from tests.helpers.taste_rows import make_taste_set

CONFIG = CandidatesConfig(num_candidates=30, num_neighbours=20, views=("item_knn", "content"))


def knows(moments: Moments, right: float, wrong: float) -> RankRows:
    """A ranker that was told the answers, and so many of them wrong."""

    def scores(number: int, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        likes = moments.all[[number]].indices
        return np.where(np.isin(rows, likes), right, wrong).astype(np.float32)

    return scores


def fitted_with(rank: Any, **section: Any) -> tuple[Fitted, Moments]:
    training_set = make_taste_set()
    config = CONFIG.model_copy(update=section)
    taken = taken_in_train(training_set)
    knowledge = ItemKnowledge.of(taken, training_set.knowledge, config)
    tables = make_tables(collaborative_tables(taken, config), knowledge, config)
    moments = moments_of(training_set, Split.VALIDATION, 50)
    blended = fit(unfitted(tables, taken, config, 10, "binary"), moments, config, 0)
    looked = look(blended, moments)
    ranked = None if rank is None else np.stack([rank(moments)(*user) for user in enumerate(looked.rows)])
    return put_in_order(blended, looked, moments, ranked, config), moments


def test_a_ranker_that_knows_more_is_asked() -> None:
    fitted, moments = fitted_with(lambda users: knows(users, 0.9, 0.1))
    assert fitted.facts["ordered_by"] == RANKER
    assert fitted.facts["ranker_gain"]["low"] > 0
    assert fitted.two_stage().asks_ranker
    rank = knows(moments, 0.9, 0.1)
    both, alone = (
        make_lists(ordered_by(fitted, name).two_stage(), moments, rank, 10, name) for name in (RANKER, IDENTITY)
    )
    assert (both != alone).any()


def test_a_ranker_that_adds_nothing_is_not_asked_unless_the_user_says_so() -> None:
    fitted, _ = fitted_with(lambda users: knows(users, 0.5, 0.5))
    assert fitted.facts["ordered_by"] == IDENTITY
    assert not fitted.two_stage().asks_ranker
    told, _ = fitted_with(lambda users: knows(users, 0.9, 0.1), ranker="list")
    assert told.facts["ordered_by"] == RANKER


def test_without_a_ranker_there_is_one_order() -> None:
    fitted, _ = fitted_with(None)
    assert list(fitted.facts["orders"]) == [IDENTITY]
    assert "ranker_gain" not in fitted.facts


def test_going_to_the_other_order_and_back_changes_nothing() -> None:
    fitted, _ = fitted_with(lambda users: knows(users, 0.9, 0.1))
    again = ordered_by(ordered_by(fitted, IDENTITY), fitted.facts["ordered_by"])
    np.testing.assert_allclose(again.arrays["biases"], fitted.arrays["biases"], atol=1e-6)
    assert again.facts == fitted.facts


@pytest.mark.parametrize("ranked", [True, False])
def test_scores_are_chances_of_a_like(ranked: bool) -> None:
    fitted, moments = fitted_with((lambda users: knows(users, 0.7, 0.4)) if ranked else None)
    stages, rank = fitted.two_stage(), knows(moments, 0.7, 0.4)
    said, happened = [], []
    for number in range(len(moments)):
        rows, scores = stages.find(moments.past(number), moments.hidden[number])
        best, chance = stages.order(rows, scores, rank(number, rows) if stages.asks_ranker else None)
        said += chance.tolist()
        happened += np.isin(best, moments.all[[number]].indices).tolist()
    assert np.mean(said) == pytest.approx(np.mean(happened), abs=0.12)
