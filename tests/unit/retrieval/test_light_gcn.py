from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array

from lorefuse.config.retrieval import LightGCNConfig
from lorefuse.core.errors import ArtifactError
from lorefuse.retrieval.evaluate import evaluate_retrieval
from lorefuse.retrieval.light_gcn import LightGCN, Propagation, normalised_adjacency
from lorefuse.retrieval.negatives import draw_unliked
from lorefuse.retrieval.tables import Knowledge
from tests.helpers.likes import NUM_ITEMS, NUM_USERS, random_likes, topic_data

SMALL = LightGCNConfig(embedding_dim=8, num_layers=2, batch_size=64, max_epochs=30, learning_rate=0.05, num_threads=1)


def test_adjacency_by_hand() -> None:
    # user 0 likes both items, user 1 the first: degrees 2, 1 and 2, 1
    likes = csr_array(np.array([[1, 1], [1, 0]], dtype=np.float32))
    root = np.sqrt(0.5)
    expected = [[0, 0, 0.5, root], [0, 0, root, 0], [0.5, root, 0, 0], [root, 0, 0, 0]]
    np.testing.assert_allclose(normalised_adjacency(likes).to_dense(), expected, atol=1e-7)


def test_propagation_is_the_papers_loop_over_neighbours() -> None:
    likes = random_likes(num_users=7, num_items=5)
    text = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    module = Propagation(likes, Knowledge(text), embedding_dim=4, num_layers=3)
    dense = likes.toarray()
    assert module.residual is not None
    with torch.no_grad():
        users, items = module.table[:7].numpy(), module.table[7:].numpy() + module.residual(text).numpy()
        got = module().numpy()
    total_users, total_items = users.copy(), items.copy()
    for _ in range(3):  # eq. 3
        new_users, new_items = np.zeros_like(users), np.zeros_like(items)
        for u, i in zip(*np.nonzero(dense), strict=True):
            share = 1 / (np.sqrt(dense[u].sum()) * np.sqrt(dense[:, i].sum()))
            new_users[u] += share * items[i]
            new_items[i] += share * users[u]
        users, items = new_users, new_items
        total_users, total_items = total_users + users, total_items + items
    np.testing.assert_allclose(got, np.concatenate([total_users, total_items]) / 4, atol=1e-5)  # eq. 4


def test_gradients_pass_through_the_graph() -> None:
    likes = random_likes(num_users=7, num_items=5)
    module = Propagation(likes, Knowledge(torch.zeros(5, 0)), embedding_dim=4, num_layers=2)
    module()[0].sum().backward()
    neighbours = 7 + likes[[0]].indices
    assert module.table.grad is not None
    assert (module.table.grad[neighbours] != 0).all()


def test_draws_are_liked_by_somebody_else() -> None:
    likes = random_likes(num_users=20, num_items=30, share=0.1)
    likes = csr_array(likes.toarray() * (np.arange(30) != 7))
    users = torch.arange(20).repeat(50)
    rows = torch.from_numpy(np.repeat(np.arange(20), np.diff(likes.indptr)))
    items = torch.from_numpy(likes.indices.astype(np.int64))
    pairs, drawable = rows * 30 + items, torch.unique(items)
    drawn = draw_unliked(users, pairs, drawable, 30, torch.Generator().manual_seed(0), num_tries=20)
    assert not np.asarray(likes.toarray()[users.numpy(), drawn.numpy()]).any()
    assert set(drawn.tolist()) == set(drawable.tolist())


def test_it_learns_and_text_reaches_cold_items() -> None:
    data = topic_data()
    ids, text = LightGCN(SMALL), LightGCN(SMALL.model_copy(update={"text_dim": 4}))
    assert evaluate_retrieval(lambda _: ids, data).estimates["ndcg_at_10_warm"].mean > 0.3  # by chance .1
    users = np.arange(NUM_USERS)
    assert (ids.scores(users, data.history)[:, 32:] == 0).all()
    cold = text.fit(data.train, data.side).scores(users, data.history)[:, 32:]
    same_topic = np.arange(8)[None, :] % 4 == users[:, None] % 4
    assert cold[same_topic].mean() > cold[~same_topic].mean() + cold.std()


def test_a_newer_history_counts_without_training_again() -> None:
    data, users = topic_data(), np.arange(NUM_USERS)
    model = LightGCN(SMALL.model_copy(update={"max_epochs": 3})).fit(data.train, data.side)
    before, after = model.scores(users), model.scores(users, data.history)
    assert not np.allclose(before, after)
    assert np.array_equal(before, model.scores(users))
    assert before.shape == (NUM_USERS, NUM_ITEMS)


def test_users_and_items_without_a_like_score_nothing() -> None:
    dense = random_likes(num_users=12, num_items=6).toarray()
    dense[3], dense[:, 2] = 0, 0
    scores = LightGCN(SMALL.model_copy(update={"max_epochs": 1})).fit(csr_array(dense)).scores(np.arange(12))
    assert (scores[3] == 0).all()
    assert (scores[:, 2] == 0).all()


def test_the_same_seed_gives_the_same_scores_and_weights_travel(tmp_path: Path) -> None:
    data, users = topic_data(), np.arange(NUM_USERS)
    config = SMALL.model_copy(update={"max_epochs": 3, "text_dim": 4})
    first = LightGCN(config, 1).fit(data.train, data.side)
    assert np.array_equal(first.scores(users), LightGCN(config, 1).fit(data.train, data.side).scores(users))
    assert not np.array_equal(first.scores(users), LightGCN(config, 2).fit(data.train, data.side).scores(users))
    first.save(tmp_path)
    loaded = LightGCN(config).load(tmp_path, data.train, data.side)
    assert np.array_equal(first.scores(users, data.history), loaded.scores(users, data.history))
    with pytest.raises(ArtifactError, match="does not fit"):
        LightGCN(config.model_copy(update={"text_dim": 0})).load(tmp_path, data.train, data.side)
