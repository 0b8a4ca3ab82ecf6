from __future__ import annotations

import numpy as np

from lorefuse.lists.fit import make_tables, taken_in_train, unfitted
from lorefuse.lists.grow import grown_stages
from lorefuse.lists.knowledge import ItemKnowledge
from lorefuse.lists.stage_files import ReaderParts
from lorefuse.lists.tables import collaborative_tables
from lorefuse.lists.two_stage import Candidates
from tests.helpers.taste_rows import NUM_ITEMS, NUM_TASTES, make_taste_set, small_lists_config

EMPTY = np.zeros(0, np.int64)


def test_a_new_item_is_found_by_whoever_likes_what_it_is_like() -> None:
    training_set, config = make_taste_set(), small_lists_config().candidates
    taken = taken_in_train(training_set)
    knowledge = ItemKnowledge.of(taken, training_set.knowledge, config)
    tables = make_tables(collaborative_tables(taken, config), knowledge, config)
    facts = {"kind": "encoder", "length": 5, "num_items": NUM_ITEMS}
    sasrec = ReaderParts(facts, {"items": np.eye(NUM_ITEMS, 6, dtype=np.float32)})
    fitted = unfitted(tables, taken, config, 10, "binary", {"sasrec": sasrec})
    more = np.concatenate([training_set.knowledge["text"], training_set.knowledge["text"][:2]])
    grown = grown_stages(fitted, [more], NUM_ITEMS + 2, config)
    old, new = (Candidates(one.arrays, one.facts) for one in (fitted, grown))
    past = {"liked": np.array([NUM_TASTES]), "seen": EMPTY}  # an item of the first taste
    encoded = {"sasrec": np.ones(6, np.float32)}
    before, after = old.raw(past, encoded), new.raw(past, encoded)
    assert after.shape == (len(before), NUM_ITEMS + 2)
    np.testing.assert_allclose(after[:, :NUM_ITEMS], before, atol=1e-6)
    assert after[2, NUM_ITEMS] > 0, "it is like what is in the past"
    assert after[2, NUM_ITEMS] > after[2, NUM_ITEMS + 1]  # by its text
    assert new.is_new[NUM_ITEMS:].all()
    assert new.popularity[-1] == old.popularity.min()


def test_an_item_that_nothing_is_known_of_joins_all_the_same() -> None:
    training_set, config = make_taste_set(text=False), small_lists_config().candidates
    taken = taken_in_train(training_set)
    fitted = unfitted(collaborative_tables(taken, config), taken, config, 10, "binary")
    grown = grown_stages(fitted, [], NUM_ITEMS + 1, config)
    raw = Candidates(grown.arrays, grown.facts).raw({"liked": np.array([1, 2]), "seen": np.array([1])})
    assert raw.shape[1] == NUM_ITEMS + 1
    assert not raw[:, -1].any()
