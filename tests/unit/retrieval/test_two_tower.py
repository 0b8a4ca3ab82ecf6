from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array

from lorefuse.config.retrieval import TwoTowerConfig
from lorefuse.core.errors import ArtifactError, DivergedError, UsageError
from lorefuse.retrieval import tables, two_tower
from lorefuse.retrieval.evaluate import evaluate_retrieval, ndcg_of
from lorefuse.retrieval.past_likes import PastLikes
from lorefuse.retrieval.recommender import Side
from lorefuse.retrieval.tables import FieldSum
from lorefuse.retrieval.two_tower import TwoTower
from tests.helpers.likes import NUM_ITEMS, NUM_USERS, topic_data

SMALL = TwoTowerConfig(
    embedding_dim=8,
    text_dim=4,
    batch_size=64,
    max_epochs=25,
    num_uniform_negatives=16,
    learning_rate=0.02,
    num_threads=1,
)


def test_history_by_hand() -> None:
    likes = csr_array(np.array([[1, 1, 0, 1], [0, 0, 0, 0], [0, 0, 1, 0]], dtype=np.float32))
    # user 0 liked item 3, then 0, then 1
    times = np.array([2.0, 3.0, 1.0, 9.0])
    ordered = PastLikes(likes, times, length=2, half_life=1.0)
    assert ordered.user.tolist() == [0, 0, 0, 2]
    assert ordered.item.tolist() == [3, 0, 1, 2]
    past, weight = ordered.of(torch.arange(4))
    np.testing.assert_allclose(weight, [[0, 0], [1, 0], [2 / 3, 1 / 3], [0, 0]], atol=1e-6)
    assert past[1, 0] == 3
    assert past[2].tolist() == [0, 3]
    _, even = PastLikes(likes, times, length=2, half_life=None).of(torch.tensor([2]))
    assert even.tolist() == [[0.5, 0.5]]


def test_no_like_sees_itself_or_a_later_one() -> None:
    data = topic_data()
    assert data.side.time is not None
    likes = PastLikes(data.train, data.side.time, 10, None)
    user, item = likes.user, likes.item
    past, weight = likes.of(torch.arange(len(user)))
    time = dict(zip(zip(*data.train.nonzero(), strict=True), data.side.time, strict=True))
    for row in range(len(user)):
        now = time[int(user[row]), int(item[row])]
        earlier = [int(i) for i, w in zip(past[row], weight[row], strict=True) if w > 0]
        assert all(time[int(user[row]), i] < now for i in earlier)
        assert len(earlier) == sum(t < now for (u, _), t in time.items() if u == user[row])


def test_fields_are_added_up_and_a_dropped_id_is_the_unseen_one() -> None:
    fields = torch.tensor([[1, 0], [2, 1]])
    module = FieldSum(fields, embedding_dim=3, id_dropout=0.999999)
    table = module.table.detach()  # ids 0 to 2, then the other field's 0 and 1
    with torch.no_grad():
        assert torch.equal(module.eval()(), torch.stack([table[1] + table[3], table[2] + table[4]]))
        assert torch.equal(module.train()(torch.tensor([1])), (table[0] + table[4])[None])


@pytest.fixture(params=[False, True], ids=["dense", "sparse"])
def gradients(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Tables as of a small catalogue, or of one with hundreds of thousands of items."""
    if request.param:
        monkeypatch.setattr(tables, "SPARSE_ABOVE", 3)
        monkeypatch.setattr(two_tower, "ALL_ITEMS_UP_TO", 0)
    return bool(request.param)


def test_a_step_moves_the_rows_of_its_batch_alone_where_tables_are_large(gradients: bool) -> None:
    data = topic_data()
    liked = np.flatnonzero(np.diff(data.train.tocsc().indptr))
    config = SMALL.model_copy(update={"num_uniform_negatives": 0, "max_epochs": 1, "id_dropout": 0.0})
    model, fresh = (TwoTower(config.model_copy(update={"learning_rate": rate})) for rate in (0.02, 1e-12))
    moved = np.abs(model.fit(data.train, data.side).item_vectors() - fresh.fit(data.train, data.side).item_vectors())
    assert (moved[liked].max(axis=1) > 1e-4).all()
    table = model.towers.item.table.detach() - fresh.towers.item.table.detach()
    unmoved = int((table.abs().max(dim=1).values < 1e-9).sum())
    assert unmoved > 0 if gradients else unmoved == 0, "decay moves every row"


@pytest.mark.usefixtures("gradients")
def test_it_learns_and_finds_cold_items_by_their_text() -> None:
    data = topic_data()
    report = evaluate_retrieval(lambda seed: TwoTower(SMALL, seed), data)
    no_text = evaluate_retrieval(lambda seed: TwoTower(SMALL.model_copy(update={"text_dim": 0}), seed), data)
    assert report.estimates["ndcg_at_10_warm"].mean > 0.3  # by chance .1
    assert report.estimates["ndcg_at_10_cold"].mean > no_text.estimates["ndcg_at_10_cold"].mean + 0.1


def test_unseen_items_with_the_same_text_score_the_same() -> None:
    data = topic_data()
    text = data.side.text
    assert text is not None
    text[33:37] = text[32]
    side = replace(data.side, knowledge={"text": text})
    scores = TwoTower(SMALL.model_copy(update={"max_epochs": 2})).fit(data.train, side).scores(np.arange(NUM_USERS))
    np.testing.assert_allclose(scores[:, 33:37], scores[:, 32:33].repeat(4, axis=1), atol=1e-6)
    assert not np.allclose(scores[:, 0], scores[:, 4])


def test_the_same_seed_gives_the_same_scores_and_weights_travel(tmp_path: Path) -> None:
    data, users = topic_data(), np.arange(NUM_USERS)
    config = SMALL.model_copy(update={"max_epochs": 3})
    first = TwoTower(config, 1).fit(data.train, data.side)
    again, other = TwoTower(config, 1).fit(data.train, data.side), TwoTower(config, 2).fit(data.train, data.side)
    assert np.array_equal(first.scores(users), again.scores(users))
    assert not np.array_equal(first.scores(users), other.scores(users))
    first.save(tmp_path)
    loaded = TwoTower(config).load(tmp_path, data.train, data.side)
    assert np.array_equal(first.scores(users, data.history), loaded.scores(users, data.history))
    with pytest.raises(ArtifactError, match="does not fit"):
        TwoTower(config.model_copy(update={"embedding_dim": 4})).load(tmp_path, data.train, data.side)


def test_training_stops_early_and_keeps_the_best_epoch() -> None:
    data, validation = topic_data(), topic_data(judged="validation")
    config = SMALL.model_copy(update={"max_epochs": 60, "patience": 2})
    judge = ndcg_of(validation, 10)
    model = TwoTower(config).fit(data.train, data.side, judge)
    scores = [epoch["validation_score"] for epoch in model.epochs]
    assert len(scores) < 60
    assert len(scores) - 1 - int(np.argmax(scores)) == 2
    assert judge(model) == max(scores)


def test_scores_are_cosines_of_the_catalogues_width() -> None:
    data = topic_data()
    model = TwoTower(SMALL.model_copy(update={"max_epochs": 1})).fit(data.train, data.side)
    scores = model.scores(np.array([3, 1]), data.history)
    assert scores.shape == (2, NUM_ITEMS)
    assert scores.dtype == np.float32
    assert np.abs(scores).max() <= 1 + 1e-5
    np.testing.assert_allclose(model.scores(np.array([1]), data.history)[0], scores[1], atol=1e-6)


def test_what_it_cannot_use_is_said() -> None:
    data = topic_data()
    with pytest.raises(UsageError, match="in order of time"):
        TwoTower(SMALL).fit(data.train, Side())
    with pytest.raises(UsageError, match="fields do not fit"):
        TwoTower(SMALL).fit(data.train, replace(data.side, user_fields=np.ones((3, 1), dtype=np.int64)))
    broken = replace(data.side, knowledge={"graph": np.full((NUM_ITEMS, 2), np.nan, dtype=np.float32)})
    with pytest.raises(DivergedError, match="not finite"):
        TwoTower(SMALL).fit(data.train, broken)
