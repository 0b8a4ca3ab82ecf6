"""What every view of the candidate stage must do, alone and in a hybrid: one suite for all."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from numpy.typing import NDArray

from lorefuse.config import PipelineConfig, parse_config
from lorefuse.config.candidates import NamedView
from lorefuse.core.schema import Split
from lorefuse.export.session import open_session
from lorefuse.export.stages import export_encoders
from lorefuse.features.arms import with_knowledge
from lorefuse.lists.encoders import save_encoder
from lorefuse.lists.fit import make_tables, taken_in_train, unfitted
from lorefuse.lists.grow import grown_stages
from lorefuse.lists.knowledge import ItemKnowledge
from lorefuse.lists.likes import likes_of, with_directions
from lorefuse.lists.moments import Moments, moments_of
from lorefuse.lists.readers import make_readers, with_encoded
from lorefuse.lists.stage_files import Fitted, ReaderParts, load_stages, save_stages
from lorefuse.lists.tables import collaborative_tables
from lorefuse.lists.two_stage import Candidates, encode, encoder_names
from lorefuse.retrieval.content import ContentCosine
from lorefuse.retrieval.data import from_training_set
from lorefuse.retrieval.ease import Ease
from lorefuse.retrieval.hybrid import Hybrid, z_scores
from lorefuse.retrieval.light_gcn import LightGCN
from lorefuse.retrieval.neighbours import ItemKNN, UserKNN
from lorefuse.retrieval.popularity import Popularity
from lorefuse.retrieval.recommender import Recommender, Side, recommend
from lorefuse.retrieval.sasrec import SASRec
from lorefuse.retrieval.two_tower import TwoTower
from lorefuse.training_set.arrays import TrainingSet
from tests.helpers.knowledge import blocks
from tests.helpers.taste_rows import NUM_ITEMS, NUM_NEW, NUM_TASTES, make_taste_set, taste_of

# What is asked is no recommender of a past: it has tests of its own (test_asked.py, test_embed.py).
WEIGHTS: dict[str, dict[str, float]] = {name: {name: 1.0} for name in get_args(NamedView) if name != "asked"}
WEIGHTS["hybrid"] = {"ease": 1.0, "user_knn": 0.5, "content": 2.0}
HALF_LIFE, L2, SHRINKAGE, EMPTY = 2.0, 10.0, 1.0, np.zeros(0, np.int64)
SMALL = {"embedding_dim": 8, "text_dim": 3, "num_threads": 1, "batch_size": 64, "learning_rate": 0.02}
NOBODY = {"liked": EMPTY, "seen": EMPTY}
every = pytest.mark.parametrize("name", WEIGHTS)


@functools.cache
def rows() -> TrainingSet:
    """Tastes that texts tell, and a graph that tells them less clearly."""
    training_set = make_taste_set()
    graph = training_set.knowledge["text"] + 0.2 * np.random.default_rng(1).normal(size=(NUM_ITEMS, NUM_TASTES))
    spec = training_set.spec.model_copy(update={"knowledge": blocks(text=NUM_TASTES, graph=NUM_TASTES)})
    return replace(training_set, knowledge={**training_set.knowledge, "graph": graph.astype(np.float32)}, spec=spec)


def config_of(name: str, new_item_neighbours: int = 5) -> PipelineConfig:
    """EASE keeps all of its weights: a table has as many neighbours as there are items."""
    return parse_config(
        {
            "candidates": {
                "views": list(WEIGHTS[name]),
                "weights": WEIGHTS[name],
                "half_lives": [HALF_LIFE],
                "num_neighbours": NUM_ITEMS,
                "shrinkage": SHRINKAGE,
                "ease_l2": L2,
                "new_item_neighbours": new_item_neighbours,
            },
            "retrieval": {
                "two_tower": {**SMALL, "max_epochs": 6, "history_half_life": HALF_LIFE},
                "light_gcn": {**SMALL, "max_epochs": 20, "text_dim": 0},
                "sasrec": {**SMALL, "max_epochs": 6, "history_length": 12, "dropout": 0.1},
            },
        }
    )


@dataclass(frozen=True)
class Made:
    """A view, its readers, and users with what its encoder makes of them."""

    fitted: Fitted
    readers: dict[str, ReaderParts]
    moments: Moments
    knowledge: ItemKnowledge
    config: PipelineConfig

    @functools.cached_property
    def candidates(self) -> Candidates:
        return Candidates(self.fitted.arrays, self.fitted.facts)

    def score(self, number: int) -> NDArray[np.float32]:
        return self.candidates.score(self.moments.past(number), self.moments.user_vectors(number))


@functools.cache
def made(name: str, new_item_neighbours: int = 5, arm: str = "real") -> Made:
    config = config_of(name, new_item_neighbours)
    section, training_set = config.candidates, rows()
    if arm != "real":
        training_set = with_knowledge(training_set, arm, config.features)  # type: ignore[arg-type]
    taken = taken_in_train(training_set)
    knowledge = ItemKnowledge.of(taken, training_set.knowledge, section)
    tables = make_tables(collaborative_tables(taken, section), knowledge, section)
    readers = make_readers(training_set, taken, knowledge, config, 0.5, seed=0)
    moments = with_encoded(moments_of(training_set, Split.VALIDATION, section.history_length), readers)
    fitted = unfitted(tables, taken, section, 20, "binary", readers)
    return Made(fitted, readers, moments.thinned(20), knowledge, config)


def own(name: str, one: Made) -> Recommender:
    """Fit the recommender of `lorefuse/retrieval` that a view is."""
    taken, config, training_set = taken_in_train(rows()), one.config.retrieval, rows()
    likes = likes_of(training_set, one.knowledge.text, 0.5, None if name == "light_gcn" else HALF_LIFE)
    everything, graph = one.knowledge.vectors, one.knowledge.alone.get("graph")
    text, graph = (Side().with_text(vectors) for vectors in (everything, graph))
    simple: dict[str, Callable[[], Recommender]] = {
        "popularity": lambda: Popularity().fit(taken),
        "item_knn": lambda: ItemKNN(NUM_ITEMS, SHRINKAGE).fit(taken),
        "user_knn": lambda: UserKNN(NUM_ITEMS, SHRINKAGE).fit(taken),
        "ease": lambda: Ease(L2).fit(taken),
        "content": lambda: ContentCosine(centre=False).fit(taken, text),
        "graph_content": lambda: ContentCosine(centre=False).fit(taken, graph),
        "two_tower": lambda: TwoTower(with_directions(config.two_tower, likes)).fit(
            likes.train, likes.side, likes.ndcg
        ),
        "light_gcn": lambda: LightGCN(config.light_gcn).fit(likes.train, likes.side, likes.ndcg),
        "sasrec": lambda: SASRec(with_directions(config.sasrec, likes)).fit(likes.train, likes.side, likes.ndcg),
    }
    if name != "hybrid":
        return simple[name]()
    members = {"ease": Ease(L2), "user_knn": UserKNN(NUM_ITEMS, SHRINKAGE), "content": ContentCosine(centre=False)}
    return Hybrid([(members[member], weight) for member, weight in WEIGHTS[name].items()]).fit(taken, text)


@every
def test_a_view_is_the_recommender_that_it_is_named_after(name: str) -> None:
    one = made(name, new_item_neighbours=0)
    data = from_training_set(rows(), judged=Split.VALIDATION, recency_half_life=HALF_LIFE)
    # LightGCN's own users have a vector for the likes that they were trained with, all of them alike.
    history = data.train if name == "light_gcn" else data.history
    recommender, users = own(name, one), one.moments.users
    if name == "light_gcn":
        history = recommender._train  # type: ignore[assignment]
    expected, shown = recommender.scores(users, history), recommend(recommender, users, 10, history_UN=history)
    for number in range(len(users)):
        score = one.score(number)
        if name != "popularity":  # which counts by its logarithm: another scale, the same order
            wanted = expected[number] if name == "hybrid" else z_scores(expected[number : number + 1])[0]
            np.testing.assert_allclose(score, wanted, atol=2e-4)
        found, _ = one.fitted.two_stage().find(one.moments.past(number), EMPTY, one.moments.user_vectors(number))
        np.testing.assert_allclose(expected[number][found[:10]], expected[number][shown[number]], atol=1e-4)


@every
def test_what_is_exported_says_the_same(name: str, tmp_path: Path) -> None:
    one = made(name)
    save_stages(one.fitted, tmp_path)
    for reader, parts in one.readers.items():
        if parts.module is not None:
            save_encoder(reader, parts.module, tmp_path)
    export_encoders(tmp_path, one.config, tmp_path)
    loaded = load_stages(tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} <= {".safetensors", ".json", ".onnx"}
    graphs = {encoder: open_session(tmp_path / f"{encoder}.onnx") for encoder in encoder_names(loaded.facts)}
    candidates = Candidates(loaded.arrays, loaded.facts)
    for number in range(len(one.moments)):
        past = one.moments.past(number)
        score = candidates.score(past, encode(past["liked"], graphs, loaded.facts))
        np.testing.assert_allclose(score, one.score(number), atol=1e-4)


@every
def test_newcomers_are_shown_what_is_popular_where_a_view_is_silent(name: str) -> None:
    one = made(name)
    score = one.candidates.score(NOBODY, _nothing(one))
    assert np.isfinite(score).all()
    if name not in ("two_tower", "sasrec"):  # which have learned what somebody unknown likes first
        np.testing.assert_allclose(score, one.candidates.popularity, atol=1e-5)
    with_a_past = {"liked": one.moments.liked[0], "seen": one.moments.seen[0]}  # of nobody whom training knows
    assert np.isfinite(one.candidates.score(with_a_past, one.moments.user_vectors(0))).all()


@every
def test_new_items_have_a_place(name: str) -> None:
    one = made(name)
    is_new = np.arange(NUM_ITEMS) >= NUM_ITEMS - NUM_NEW
    scores = np.stack([one.score(number) for number in range(len(one.moments))])
    assert np.isfinite(scores).all()
    alike = taste_of(np.arange(NUM_ITEMS))[None] == (one.moments.users % NUM_TASTES)[:, None]
    gain = scores[alike & is_new].mean() - scores[~alike & is_new].mean()
    assert gain > 0.3 or name == "popularity"
    if name in ("item_knn", "user_knn", "ease"):
        assert (scores[:, is_new].max(axis=1) <= scores[:, ~is_new].max(axis=1) + 1e-5).all(), "a mean is no maximum"


@every
def test_items_join_without_training(name: str) -> None:
    one = made(name)
    text = rows().knowledge["text"]
    more = np.concatenate([text, text[:NUM_TASTES]])  # one of each taste
    grown = grown_stages(one.fitted, [more], len(more), one.config.candidates)
    after = Candidates(grown.arrays, grown.facts)
    for number in range(len(one.moments)):
        past, encoded = one.moments.past(number), one.moments.user_vectors(number)
        raw, before = after.raw(past, encoded), one.candidates.raw(past, encoded)
        np.testing.assert_allclose(raw[:, :NUM_ITEMS], before, atol=1e-5)
        assert np.isfinite(after.score(past, encoded)).all()
        if len(raw):
            joined = raw[:, NUM_ITEMS:].sum(axis=0)
            assert joined[one.moments.users[number] % NUM_TASTES] >= joined.mean()
    bare = grown_stages(one.fitted, [], len(more), one.config.candidates)
    assert np.isfinite(Candidates(bare.arrays, bare.facts).score(NOBODY, _nothing(one))).all()


@every
def test_a_past_of_unknown_rows_is_no_past(name: str) -> None:
    one = made(name)
    gone = {"liked": np.array([NUM_ITEMS + 5, -3, 10**6]), "seen": np.array([NUM_ITEMS])}
    np.testing.assert_allclose(
        one.candidates.raw(gone, _nothing(one)), one.candidates.raw(NOBODY, _nothing(one)), atol=1e-6
    )
    new = {"liked": np.array([NUM_ITEMS - 1]), "seen": np.array([NUM_ITEMS - 1, NUM_ITEMS - 2])}
    assert np.isfinite(one.candidates.score(new, _nothing(one))).all()


@every
def test_without_knowledge_there_is_a_list_all_the_same(name: str) -> None:
    one = made(name, arm="none")
    assert one.knowledge.vectors is None
    assert not {"content", "graph_content"} & {*one.readers, *one.fitted.facts["tables"]}
    assert np.isfinite(one.score(0)).all()
    if name in ("content", "graph_content"):
        np.testing.assert_array_equal(one.score(0), one.candidates.popularity)


def _nothing(one: Made) -> dict[str, NDArray[np.float32]]:
    """What the encoders make of nobody's past."""
    import torch

    return {
        name: parts.module(torch.zeros(1, parts.facts["length"], dtype=torch.int64))[0].detach().numpy()
        for name, parts in one.readers.items()
        if parts.module is not None
    }
