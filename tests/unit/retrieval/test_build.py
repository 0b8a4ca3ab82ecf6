from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from pydantic import ValidationError

from lorefuse.config.retrieval import MemberName, RecommenderName, RetrievalConfig
from lorefuse.retrieval.build import build_recommender, seeds_of
from lorefuse.retrieval.recommender import recommend
from tests.helpers.likes import NUM_USERS, topic_data

CONFIG = RetrievalConfig(
    num_neighbours=10,
    shrinkage=1.0,
    two_tower={"embedding_dim": 8, "text_dim": 4, "max_epochs": 2, "num_threads": 1},
    light_gcn={"embedding_dim": 8, "max_epochs": 2, "num_threads": 1},
    sasrec={"embedding_dim": 8, "text_dim": 4, "max_epochs": 2, "num_threads": 1},
)
NAMES = ("popularity", "item_knn", "user_knn", "ease", "content", "two_tower", "light_gcn", "sasrec", "hybrid")


def test_every_name_is_tested() -> None:
    assert {*get_args(MemberName), "hybrid"} == set(NAMES)
    assert set(RetrievalConfig().recommenders) == set(NAMES) - {"sasrec"}  # minutes, where the others take seconds
    assert RecommenderName is not None


@pytest.mark.parametrize("name", NAMES)
def test_contract_of_a_recommender(name: RecommenderName) -> None:
    data = topic_data()
    model = build_recommender(name, CONFIG)
    assert model.fit(data.train, data.side) is model
    some, one = model.scores(np.array([7, 2, 11]), data.history), model.scores(np.array([2]), data.history)
    assert some.shape == (3, 40)
    assert some.dtype == np.float32
    assert np.isfinite(some).all()
    np.testing.assert_allclose(some[1], one[0], atol=1e-5)  # whoever else is asked for
    ranked = recommend(model, np.arange(NUM_USERS), 5, seen_UN=data.seen)
    seen = data.seen.toarray()
    assert not seen[np.arange(NUM_USERS)[:, None], ranked].any()
    assert all(len(set(row)) == 5 for row in ranked.tolist())


def test_only_what_draws_gets_several_seeds() -> None:
    assert seeds_of("ease", CONFIG) == (0,)
    assert seeds_of("two_tower", CONFIG) == (0, 1, 2)
    assert seeds_of("hybrid", CONFIG) == (0,)
    assert seeds_of("hybrid", CONFIG.model_copy(update={"hybrid_weights": {"ease": 1, "light_gcn": 1}})) == (0, 1, 2)


def test_new_items_of_a_hybrid_take_over_scores_where_that_is_wanted() -> None:
    data, users = topic_data(), np.arange(NUM_USERS)
    weights = {"hybrid_weights": {"ease": 1.0, "popularity": 0.0}}
    plain = build_recommender("hybrid", CONFIG.model_copy(update={**weights, "new_item_neighbours": 0}))
    inherited = build_recommender("hybrid", CONFIG.model_copy(update=weights))
    spread = [model.fit(data.train, data.side).scores(users)[:, 32:].std() for model in (plain, inherited)]
    assert spread[1] > 2 * spread[0]


def test_a_wrong_config_is_refused() -> None:
    for wrong in ({"recommenders": ["svd"]}, {"hybrid_weights": {"ease": 1.0}}, {"k": 0}, {"ease_l2": 0}):
        with pytest.raises(ValidationError):
            RetrievalConfig.model_validate(wrong)
