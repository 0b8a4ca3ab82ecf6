from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from scipy.sparse import csr_array
from torch import Tensor

from lorefuse.config.retrieval import SASRecConfig
from lorefuse.core.errors import ArtifactError, DivergedError, UsageError
from lorefuse.export.onnx import export_module
from lorefuse.retrieval import sequence_loss, tables
from lorefuse.retrieval.evaluate import evaluate_retrieval, ndcg_of
from lorefuse.retrieval.recommender import Side, recommend
from lorefuse.retrieval.sasrec import SASRec, latest
from lorefuse.retrieval.sequence_encoder import SequenceEncoder, SequenceItems, by_length
from lorefuse.retrieval.sequence_loss import SequenceLoss
from lorefuse.retrieval.tables import Knowledge
from tests.helpers.likes import NUM_ITEMS, NUM_USERS, topic_data

SMALL = SASRecConfig(
    embedding_dim=8,
    text_dim=4,
    history_length=6,
    num_layers=1,
    batch_size=16,
    max_epochs=25,
    num_negatives=8,
    learning_rate=0.02,
    num_threads=1,
)
USERS = np.arange(NUM_USERS)


def changed(**update: object) -> SASRecConfig:
    """The small config, some fields changed."""
    return SMALL.model_copy(update=update)


def encoder(length: int = 5, num_items: int = 9, seed: int = 0) -> SequenceEncoder:
    """Return a fresh encoder whose positions matter, in evaluation mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        items = SequenceItems(torch.arange(1, num_items + 1)[:, None], Knowledge(torch.randn(num_items, 3)), 8, 0.0)
        module = SequenceEncoder(items, history_length=length, num_layers=2, num_heads=2, dropout=0.5)
        torch.nn.init.normal_(module.position)
    return module.eval()


def states(module: SequenceEncoder, past: list[list[int]]) -> Tensor:
    """Return the states of some sequences."""
    past_BL = torch.tensor(past)
    with torch.no_grad():
        return module.states(past_BL, module.items()[(past_BL - 1).clamp(min=0)])


def rings(num_users: int = 40, num_items: int = 12, length: int = 7) -> tuple[csr_array, Side]:
    """Users who walk around a ring of items, each from another start: the next item is sure."""
    dense = np.zeros((num_users, num_items))
    for user in range(num_users):
        for step in range(length):
            dense[user, (user + step) % num_items] = step + 1
    timed = csr_array(dense)
    return csr_array((np.ones(timed.nnz, dtype=np.float32), timed.indices, timed.indptr), shape=dense.shape), Side(
        time=timed.data
    )


def test_latest_likes_by_hand() -> None:
    # user 0 liked item 3, then 0, then 1; user 2 liked 4 and 2, nobody knows in which order
    weights = csr_array(np.array([[0.5, 1, 0, 0.25, 0], [0, 0, 0, 0, 0], [0, 0, 1, 0, 1]], dtype=np.float32))
    assert latest(weights, 4).tolist() == [[0, 4, 1, 2], [0, 0, 0, 0], [0, 0, 3, 5]]
    assert latest(weights, 2).tolist() == [[1, 2], [0, 0], [3, 5]]


def test_sequences_by_hand() -> None:
    train = csr_array(np.array([[1, 1, 0, 1], [0, 0, 0, 0], [0, 0, 1, 0]], dtype=np.float32))
    time = np.array([2.0, 3.0, 1.0, 9.0])  # user 0 liked item 3, then 0, then 1
    loss = SequenceLoss(encoder(length=3), changed(history_length=3), train, time)
    past, target = loss.sequences(torch.arange(len(loss.last_likes)))
    assert past.tolist() == [[0, 4, 1], [0, 0, 0]]
    assert target.tolist() == [[4, 1, 2], [0, 0, 3]]
    short = SequenceLoss(encoder(length=1), changed(history_length=1), train, time)
    assert [part.tolist() for part in short.sequences(torch.tensor([0]))] == [[[1]], [[2]]]


def test_sequences_of_similar_length_go_together() -> None:
    groups = [(at.tolist(), width) for at, width in by_length(torch.tensor([0, 3, 4, 10, 7, 9]), 10)]
    assert groups == [([0, 1], 4), ([2, 4], 8), ([3, 5], 10)]
    assert [(at.tolist(), width) for at, width in by_length(torch.tensor([0, 2, 1]), 2)] == [([0, 1, 2], 2)]


def test_a_block_by_hand() -> None:
    module = encoder(length=2)
    block, past = module.blocks[0], torch.tensor([[3, 7]])
    x = module.items()[(past - 1)[0]] * 8**0.5 + module.position
    normed = block.norm_attention(x)
    query, key, value = (normed @ block.query_key_value.weight.T + block.query_key_value.bias).chunk(3, dim=1)
    heads = []
    for head in (slice(0, 4), slice(4, 8)):
        second = ((query[1, head] * key[:, head]).sum(dim=1) / 2).softmax(dim=0)
        heads.append(torch.stack([value[0, head], second @ value[:, head]]))  # the first sees itself alone
    x = x + block.attended(torch.cat(heads, dim=1))
    x = x + block.feed(block.norm_feed(x))
    module.blocks = module.blocks[:1]
    torch.testing.assert_close(states(module, [[3, 7]])[0], module.norm(x).detach())


def test_a_later_item_changes_no_earlier_position() -> None:
    module = encoder()
    one, other = states(module, [[1, 2, 3, 4, 5]]), states(module, [[1, 2, 3, 9, 8]])
    torch.testing.assert_close(one[0, :3], other[0, :3])
    assert (one[0, 3:] - other[0, 3:]).abs().min(dim=1).values.max() > 1e-3
    swapped = states(module, [[2, 1, 3, 4, 5]])
    assert (one[0, 4] - swapped[0, 4]).abs().max() > 1e-3, "order counts"


def test_padding_changes_nothing_and_nothing_but_padding_is_finite() -> None:
    module = encoder()
    torch.testing.assert_close(states(module, [[0, 0, 0, 4, 2]])[0, 3:], states(module, [[4, 2]])[0])
    with torch.no_grad():
        padded, empty = module(torch.tensor([[0, 0, 4, 2]])), module(torch.zeros(2, 5, dtype=torch.int64))
        torch.testing.assert_close(padded, module(torch.tensor([[4, 2]])))
        torch.testing.assert_close(empty[0], module(torch.zeros(1, 1, dtype=torch.int64))[0])
    assert torch.isfinite(empty).all()
    module.train()
    torch.autograd.backward(module(torch.tensor([[0, 0, 0, 0, 0], [0, 0, 0, 4, 2]])).sum())
    assert all(torch.isfinite(weight.grad).all() for weight in module.parameters() if weight.grad is not None)


@pytest.mark.parametrize("loss", ["ce", "sampled_ce", "bce"])
@pytest.mark.parametrize("large", [False, True])
def test_it_learns_a_sure_next_item(loss: str, large: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if large:  # as of a catalogue with hundreds of thousands of items
        monkeypatch.setattr(tables, "SPARSE_ABOVE", 3)
        monkeypatch.setattr(sequence_loss, "ALL_ITEMS_UP_TO", 0)
        monkeypatch.setattr(sequence_loss, "LIKES_PER_SOFTMAX", 32)
    train, side = rings()
    config = changed(
        loss=loss, all_items_up_to=1 if large else 50, item_mode="ids", embedding_dim=16, dropout=0.0, max_epochs=60
    )
    model = SASRec(config).fit(train, side)
    wanted = (np.arange(40) + 7) % 12
    found = recommend(model, np.arange(40), 1, seen_UN=train)[:, 0]
    assert (found == wanted).mean() > 0.9


@pytest.mark.parametrize("mode", ["ids", "text_init", "fused"])
def test_unseen_items_are_ranked_by_text_when_it_is_fused(mode: str) -> None:
    data = topic_data()
    model = SASRec(changed(item_mode=mode))
    report = evaluate_retrieval(lambda _: model, data)
    assert report.estimates["ndcg_at_10_warm"].mean > 0.3  # by chance .1
    cold = model.scores(USERS, data.history)[:, 32:]
    same_topic = np.arange(8)[None, :] % 4 == USERS[:, None] % 4
    if mode == "fused":
        assert cold[same_topic].mean() > cold[~same_topic].mean() + cold.std()
        assert np.ptp(cold, axis=1).min() > 1e-3
    else:
        assert np.ptp(cold, axis=1).max() < 1e-5, "they share a vector"
        warm = model.scores(USERS, data.history)[:, :32]
        assert (cold[:, 0] < np.sort(warm, axis=1)[:, -6]).mean() > 0.9, "below a topic's eight items, or most of them"


def test_ids_may_start_at_their_text() -> None:
    data = topic_data()
    model = SASRec(changed(item_mode="text_init", max_epochs=1, learning_rate=1e-9)).fit(data.train, data.side)
    vectors: NDArray[np.float32] = model.item_vectors()[:32]
    knowledge = tables.knowledge_of(data.side, data.train, 4).values.numpy()[:32]
    lengths = [np.linalg.norm(part, axis=1, keepdims=True) for part in (vectors, knowledge)]
    vectors, knowledge = vectors / lengths[0], knowledge / lengths[1]
    np.testing.assert_allclose(vectors @ vectors.T, knowledge @ knowledge.T, atol=1e-4)


def test_history_is_read_in_its_order_and_a_newer_one_counts() -> None:
    train, side = rings()
    model = SASRec(changed(item_mode="ids", embedding_dim=16, dropout=0.0)).fit(train, side)
    assert side.time is not None
    weights = csr_array((0.5 ** (7 - side.time), train.indices, train.indptr), shape=train.shape)
    users = np.arange(6, 11)  # beyond the ring's end: rows are not in order of time
    assert np.array_equal(model.scores(users), model.scores(users, weights)), "by default that of train, by time"
    assert not np.allclose(model.scores(users), model.scores(users, csr_array(train)))
    past = latest(weights[users], 6)
    expected = model.user_vectors(past) @ model.item_vectors().T
    np.testing.assert_allclose(model.scores(users, weights), expected, atol=1e-6)
    np.testing.assert_allclose(model.user_vectors(past)[2:3], model.user_vectors(past[2:3]), atol=1e-5)


def test_users_without_a_like_get_what_first_likes_are() -> None:
    data = topic_data()
    dense = data.train.toarray()
    first = dense.copy()
    first[:, 1:] = 0
    first[:, 0] = 1  # everybody began with item 0
    everyone = csr_array(np.maximum(dense, first))
    time = np.where(everyone.indices == 0, 0.0, 1.0 + np.arange(everyone.nnz))
    model = SASRec(changed(item_mode="ids")).fit(everyone, replace(data.side, time=time))
    scores = model.scores(np.array([0]), csr_array(dense.shape, dtype=np.float32))
    assert np.isfinite(scores).all()
    assert scores.argmax() == 0


def test_the_same_seed_gives_the_same_scores_and_weights_travel(tmp_path: Path) -> None:
    data, config = topic_data(), changed(max_epochs=3)
    first = SASRec(config, 1).fit(data.train, data.side)
    again, other = SASRec(config, 1).fit(data.train, data.side), SASRec(config, 2).fit(data.train, data.side)
    assert np.array_equal(first.scores(USERS), again.scores(USERS))
    assert not np.array_equal(first.scores(USERS), other.scores(USERS))
    first.save(tmp_path)
    loaded = SASRec(config).load(tmp_path, data.train, data.side)
    assert np.array_equal(first.scores(USERS, data.history), loaded.scores(USERS, data.history))
    assert np.array_equal(first.scores(USERS), loaded.scores(USERS))
    with pytest.raises(ArtifactError, match="does not fit"):
        SASRec(changed(embedding_dim=4)).load(tmp_path, data.train, data.side)


def test_training_stops_early_and_keeps_the_best_epoch() -> None:
    data, judge = topic_data(), ndcg_of(topic_data(judged="validation"), 10)
    model = SASRec(changed(max_epochs=60, patience=2)).fit(data.train, data.side, judge)
    scores = [epoch["validation_score"] for epoch in model.epochs]
    assert len(scores) < 60
    assert judge(model) == max(scores)


def test_the_exported_encoder_gives_the_same_numbers(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    data = topic_data()
    model = SASRec(changed(max_epochs=2, num_layers=2)).fit(data.train, data.side)
    past = latest(data.history, 6)
    past[3] = 0
    path = tmp_path / "encoder.onnx"
    export_module(model.encoder, {"past": torch.from_numpy(past[:4])}, ["past"], ["user_vector"], path)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for rows in (past, past[:1], past[3:4], past[:7]):
        (got,) = session.run(None, {"past": rows})
        assert np.isfinite(got).all()
        np.testing.assert_allclose(got, model.user_vectors(rows), atol=1e-5)
    assert got.shape == (7, 8)
    assert model.item_vectors().shape == (NUM_ITEMS, 8)


def test_what_it_cannot_use_is_said() -> None:
    data = topic_data()
    with pytest.raises(UsageError, match="in order of time"):
        SASRec(SMALL).fit(data.train, Side())
    broken = replace(data.side, knowledge={"graph": np.full((NUM_ITEMS, 2), np.nan, dtype=np.float32)})
    with pytest.raises(DivergedError, match="not finite"):
        SASRec(SMALL).fit(data.train, broken)
    with pytest.raises(ValidationError, match="must divide embedding_dim"):
        SASRecConfig(embedding_dim=9, num_heads=2)
