"""Profile texts: what they name, and that they never name what came later."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lorefuse.config import EmbeddingConfig
from lorefuse.core.errors import ConfigError
from lorefuse.core.schema import EVENT_TIMESTAMP, ITEM_ID, LABEL, SPLIT, USER_ID, Split
from lorefuse.data.split import load_split
from lorefuse.embedding.embed import embed_texts
from lorefuse.embedding.reduce import fit_reducer
from lorefuse.knowledge.profile import profile_text, profile_texts, profile_vectors
from tests.helpers.encoders import save_encoder
from tests.helpers.feature_world import World, make_world


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("profile"), strategy="per_user_time")


def test_newest_first_with_categories_where_there_are_any() -> None:
    assert profile_text([("Heat", "Crime"), ("", "Drama"), ("Emma", "")]) == "liked: Emma; Heat (Crime)"
    assert profile_text([]) == profile_text([("", "Drama")]) == ""


def test_an_unknown_template_is_named() -> None:
    with pytest.raises(ConfigError, match="profile template"):
        profile_text([], "liked@99")


def test_each_names_the_last_liked_train_rows_up_to_its_moment(world: World) -> None:
    """By a loop over the raw table, for every profile."""
    parts = load_split(world.split_path)[0]
    rows, texts = profile_texts(world.dataset, parts, 3, "liked@1")
    events, items = world.dataset.interactions(), world.dataset.items().set_index(ITEM_ID)
    train = events[(parts[SPLIT] == Split.TRAIN).to_numpy()]
    assert len(rows) == len(train.drop_duplicates([USER_ID, EVENT_TIMESTAMP])) > 100
    for row, text in zip(rows, texts, strict=True):
        event = events.iloc[row]
        past = train[(train[USER_ID] == event[USER_ID]) & (train[EVENT_TIMESTAMP] <= event[EVENT_TIMESTAMP])]
        liked = past[past[LABEL] == 1].sort_values(EVENT_TIMESTAMP, kind="stable")[ITEM_ID].tolist()[-3:]
        named = [
            f"{items.at[item, 'title']} ({', '.join([items.at[item, 'decade'], *items.at[item, 'genres']])})"
            for item in liked[::-1]
        ]
        assert text == (f"liked: {'; '.join(named)}" if named else "")


def test_later_rows_change_no_profile(world: World) -> None:
    parts = load_split(world.split_path)[0]
    events = world.dataset.interactions()
    cut = events[EVENT_TIMESTAMP].quantile(0.5)
    early = parts.assign(**{SPLIT: parts[SPLIT].where((events[EVENT_TIMESTAMP] <= cut).to_numpy(), Split.TEST)})
    some, every = (dict(zip(*profile_texts(world.dataset, part, 5, "liked@1"), strict=True)) for part in (early, parts))
    assert 0 < len(some) < len(every)
    assert some == {row: text for row, text in every.items() if row in some}


def test_vectors_stand_in_the_items_space(tmp_path: Path) -> None:
    config = EmbeddingConfig(encoder=str(save_encoder(tmp_path / "bert", "bert")), word_dim=8, reduce_dim=3)
    texts = [f"w{n} w{n + 1} w{2 * n}" for n in range(12)]
    full, _ = embed_texts(texts, config)
    reducer = fit_reducer(full, np.arange(12), 3)
    vectors = profile_vectors([texts[4], "", texts[7]], config, reducer)
    np.testing.assert_allclose(vectors[[0, 2]], reducer.transform(full[[4, 7]], np.ones(2, bool)), atol=1e-6)
    assert not vectors[1].any()


def test_with_several_facets_it_takes_the_first_ones_place(tmp_path: Path) -> None:
    encoder = str(save_encoder(tmp_path / "bert", "bert"))
    config = EmbeddingConfig(encoder=encoder, facets={"name": ["title"], "about": ["genres"]})
    full, _ = embed_texts([f"w{n} w{n + 1}" for n in range(9)], config.model_copy(update={"facets": ()}))
    reducer = fit_reducer(np.hstack([full, full[::-1]]), np.arange(9), 4)
    alone = np.hstack([full[:1], np.zeros_like(full[:1])])
    text_vector = profile_vectors(["w0 w1"], config, reducer)
    np.testing.assert_allclose(text_vector, reducer.transform(alone, np.ones(1, bool)), atol=1e-6)
