"""What the user asked just now finds candidates."""

from __future__ import annotations

import dataclasses

import numpy as np

from lorefuse.config.candidates import CandidatesConfig
from lorefuse.core.schema import CONTEXT_TEXT, Split
from lorefuse.lists.fit import fit, make_tables, taken_in_train, unfitted
from lorefuse.lists.judge import make_lists
from lorefuse.lists.knowledge import ItemKnowledge
from lorefuse.lists.moments import asked_columns, moments_of
from lorefuse.lists.readers import make_readers
from lorefuse.lists.stage_files import Fitted
from lorefuse.lists.tables import collaborative_tables
from lorefuse.retrieval.metrics import user_metrics
from lorefuse.training_set.arrays import TrainingSet
from lorefuse.training_set.spec import InterestFacet
from tests.helpers.knowledge import blocks
from tests.helpers.taste_rows import NUM_ITEMS, make_taste_set, small_lists_config

WORDS = 16


def ask_for_the_item() -> TrainingSet:
    """Tastes, with item texts that say which item it is, and queries that say which one will be taken."""
    rng, plain = np.random.default_rng(0), make_taste_set()
    text = rng.normal(size=(NUM_ITEMS, WORDS)).astype(np.float32)
    text /= np.linalg.norm(text, axis=1, keepdims=True)
    said = text[plain.item_row] + 0.2 * rng.normal(size=(plain.num_rows, WORDS)).astype(np.float32)
    facet = InterestFacet(name=CONTEXT_TEXT, against="item_text", dim=WORDS, as_field=True)
    spec = plain.spec.model_copy(update={"interest": (*plain.spec.interest, facet), "knowledge": blocks(text=WORDS)})
    interest = np.concatenate([plain.user_interest, said], axis=1).astype(np.float32)
    return dataclasses.replace(plain, spec=spec, user_interest=interest, knowledge={"text": text})


def stages(training_set: TrainingSet, config: CandidatesConfig) -> Fitted:
    whole = small_lists_config().model_copy(update={"candidates": config})
    taken = taken_in_train(training_set)
    knowledge = ItemKnowledge.of(taken, training_set.knowledge, config)
    tables = make_tables(collaborative_tables(taken, config), knowledge, config)
    readers = make_readers(training_set, taken, knowledge, whole, 0.5, 0)
    moments = moments_of(training_set, Split.VALIDATION, 50)
    return fit(unfitted(tables, taken, config, 20, "binary", readers), moments, config, 0)


def test_a_query_finds_what_it_asks_for() -> None:
    training_set = ask_for_the_item()
    test = moments_of(training_set, Split.TEST, 50)
    ndcg = {}
    for views in (("item_knn", "content"), ("item_knn", "content", "asked")):
        config = CandidatesConfig(num_candidates=20, num_neighbours=20, views=views)
        shown = make_lists(stages(training_set, config).two_stage(), test, None, 10, "test")
        ndcg[views[-1]] = user_metrics(shown, test.all, 10)["ndcg"].mean()
    assert ndcg["asked"] > ndcg["content"] + 0.1


def test_without_a_query_the_view_says_nothing() -> None:
    training_set = ask_for_the_item()
    test = moments_of(training_set, Split.TEST, 50)
    config = CandidatesConfig(num_candidates=20, num_neighbours=20, views=("item_knn", "asked"))
    candidates = stages(training_set, config).two_stage().candidates
    past = test.past(0)
    assert candidates.raw(past)[-1].any()
    columns = asked_columns(training_set.spec)
    assert columns is not None
    silent = past["interest"].copy()
    silent[columns] = 0
    for nothing in ({**past, "interest": silent}, {key: past[key] for key in ("liked", "seen", "user")}):
        assert not candidates.raw(nothing)[-1].any()


def test_data_without_queries_has_no_such_view() -> None:
    training_set = make_taste_set()
    assert asked_columns(training_set.spec) is None
    assert moments_of(training_set, Split.TEST, 50).interest is None
    assert stages(training_set, CandidatesConfig(views=("item_knn", "asked"))).facts["readers"] == {}
