"""Tables moved by rows: the weights, moments and averages of dense steps, at the cost of the rows of a batch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from lorefuse.config import DeepFMConfig, DINConfig, TrainingConfig
from lorefuse.models.build import build_ranker
from lorefuse.models.ranker import Ranker
from lorefuse.training import optimizer as optimizers
from lorefuse.training.batches import Batches
from lorefuse.training.elapsed import Elapsed
from lorefuse.training.optimizer import Optimizer, large_tables
from lorefuse.training.row_table import summed
from lorefuse.training.step import step_loss
from lorefuse.training.train import train
from tests.helpers.training_rows import make_training_set, small_config

CONFIG = TrainingConfig(batch_size=32, learning_rate=0.01, embedding_l2=0.5, max_epochs=3, num_threads=1)
ROWS = make_training_set(num_rows=600)
DEEPFM = DeepFMConfig(embedding_dim=4, hidden_dims=(8,), fusion_text_dim=2, fusion_graph_dim=2, id_dropout=0.0)
HISTORY = DINConfig(embedding_dim=4, hidden_dims=(8,), history_length=3, match=True)


class Training:
    """A ranker of made-up rows in training, dense or by rows.

    In float64: the first steps of Adam go by the sign of a gradient, and rounding must not choose it.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, by_rows: bool, **changes: object) -> None:
        monkeypatch.setattr(optimizers, "BY_ROWS_ABOVE", 0 if by_rows else 1 << 60)
        self.ranker: Ranker = build_ranker(DEEPFM.model_copy(update={"dropout": 0.0}), ROWS.spec, seed=3)
        self.ranker.prepare(ROWS)
        self.ranker.double()
        self.optimizer = Optimizer(self.ranker, CONFIG.model_copy(update=changes))
        self.batches = batches = Batches(ROWS, torch.device("cpu"))
        batches.label, batches.value = batches.label.double(), batches.value.double()
        for tables in (batches.user_tables, batches.states, batches.item_tables, batches.rows):
            tables |= {name: value.double() for name, value in tables.items() if value.is_floating_point()}

    def step(self, rows: Tensor) -> None:
        self.ranker.train()
        self.optimizer.step(step_loss(self.ranker, self.batches, rows))

    def weights(self) -> dict[str, Tensor]:
        """Weights and averages as of now."""
        self.optimizer.settle()
        found = {f"now.{k}": v.clone() for k, v in self.ranker.state_dict().items()}
        return found | {f"average.{k}": v.clone() for k, v in self.optimizer.average.ranker.state_dict().items()}


def _both(monkeypatch: pytest.MonkeyPatch, steps: list[Tensor], **changes: object) -> tuple[Training, Training]:
    pair = Training(monkeypatch, by_rows=False, **changes), Training(monkeypatch, by_rows=True, **changes)
    for rows in steps:
        for training in pair:
            training.step(rows)
    return pair


def _assert_same(pair: tuple[Training, Training], atol: float) -> None:
    dense, by_rows = (training.weights() for training in pair)
    for name, value in dense.items():
        torch.testing.assert_close(by_rows[name], value, rtol=0, atol=atol, msg=name)


def _draws(num_steps: int, size: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randperm(600, generator=generator)[:size] for _ in range(num_steps)]


@pytest.mark.parametrize("changes", [{}, {"ema_decay": 0.0}, {"embedding_l2": 0.0}, {"learning_rate": 0.05}], ids=str)
@pytest.mark.parametrize("size", [2, 600], ids=["few-rows", "all-rows"])
def test_weights_and_averages_are_those_of_dense_steps(
    monkeypatch: pytest.MonkeyPatch, size: int, changes: dict[str, float]
) -> None:
    _assert_same(_both(monkeypatch, _draws(150, size), **changes), atol=2e-5 if size == 2 else 1e-12)


def test_a_row_that_no_batch_touched_decays_as_a_dense_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The closed form: no gradient was ever there, and weight and average are decayed alone."""
    dense, by_rows = _both(monkeypatch, [torch.tensor([5])] * 300)
    untouched = torch.ones(len(dense.ranker.user_embedding.table), dtype=torch.bool)
    untouched[ROWS.user_fields[ROWS.user_row[5]][0]] = False
    untouched[21:] = False  # the other field's
    one, other = dense.weights(), by_rows.weights()
    for name in ("now.user_embedding.table", "average.user_embedding.table"):
        torch.testing.assert_close(other[name][untouched], one[name][untouched], rtol=2e-5, atol=0)
    kept = (1 - 0.01 * 0.5) ** 300
    start = build_ranker(DEEPFM, ROWS.spec, seed=3).user_embedding.table.double()
    torch.testing.assert_close(other["now.user_embedding.table"][untouched], kept * start[untouched], rtol=2e-5, atol=0)


def test_a_row_that_waits_is_what_dense_steps_make_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Touched now and then: what is left of its momentum moves it on, and its moments fade."""
    other, pair = torch.tensor([7]), _both(monkeypatch, [])
    for wait in (1, 2, 7, 40, 400):
        for rows in [torch.tensor([5]), *[other] * wait]:
            for training in pair:
                training.step(rows)
        _assert_same(pair, atol=2e-6)
    dense, by_rows = (training.optimizer for training in pair)
    for number, table in enumerate(by_rows.tables.values()):
        for name, value in table.state().items():
            torch.testing.assert_close(value, dense.state()[f"dense.{number}.{name}"], rtol=1e-4, atol=1e-12)


def test_it_does_not_matter_how_often_rows_are_brought_to_the_present(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = Training(monkeypatch, by_rows=True), Training(monkeypatch, by_rows=True)
    for rows in _draws(60, 3):
        one.step(rows)
        other.step(rows)
        other.optimizer.settle()
    _assert_same((one, other), atol=1e-6)


def test_a_step_writes_the_rows_of_its_batch_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    training = Training(monkeypatch, by_rows=True)
    rows = torch.tensor([1, 2, 3, 3])
    touched = torch.from_numpy(ROWS.user_fields[ROWS.user_row[rows]]) + training.ranker.user_embedding.offsets
    table = training.optimizer.tables["user_embedding.table"]
    before = table._store.clone()
    training.step(rows)
    assert table.num_moved == len(touched.unique())
    changed = (table._store != before).any(1)
    assert changed[touched.flatten()].all()
    assert int(changed.sum()) == table.num_moved
    assert training.ranker.user_embedding.table.grad is None  # nothing as large as the table is made


def test_many_steps_between_two_epochs_have_room() -> None:
    elapsed = Elapsed(0.01, 0.1, torch.device("cpu"))
    for step in range(1, 300):
        elapsed.advance(step, 0.02)
    factors = elapsed.since(torch.tensor([0, 298, 299]))
    assert factors.kept.flatten().tolist() == pytest.approx([0.999**299, 0.999, 1.0])
    assert factors.first[-1] == factors.second[-1] == factors.average_kept[-1] == 1  # as of now: nothing changes
    assert factors.moved[-1] == factors.average_weight[-1] == factors.average_moved[-1] == 0


@pytest.mark.parametrize(("step", "bound"), [(1, 0.05), (100, 5e-4), (1000, 2e-5)])
def test_what_has_no_closed_form_is_as_near_as_is_said(step: int, bound: float) -> None:
    """The sum over 1 / (√v q + ε), worst over all √v; the formulas are those of `elapsed`."""
    elapsed, num_steps, rate = Elapsed(0.01, 0.1, torch.device("cpu")), 60, 0.999
    for later in range(step + 1, step + num_steps + 1):
        elapsed.advance(later, 0.02)
    factors = elapsed.since(torch.tensor([0]))
    k = torch.arange(1, num_steps + 1, dtype=torch.float64)
    weight = rate ** (num_steps - k) * 0.9**k / (1 - 0.9 ** (step + k))
    q = (0.999**k / (1 - 0.999 ** (step + k))).sqrt()
    root = torch.logspace(-12, -2, 200, dtype=torch.float64).unsqueeze(1)
    exact = (weight / (root * q + 1e-8)).sum(1)
    ours = factors.moved / (root * factors.root + 1e-8)
    assert float((ours.flatten() / exact - 1).abs().max()) < bound


def test_gradients_of_a_row_are_summed() -> None:
    rows, grads = summed(torch.tensor([4, 2, 4]), torch.tensor([[1.0, 2], [3, 4], [5, 6]]))
    assert rows.tolist() == [2, 4]
    assert grads.tolist() == [[3, 4], [6, 8]]


@pytest.mark.parametrize("model", [DEEPFM, HISTORY], ids=["deepfm", "din"])
@pytest.mark.parametrize("loss", ["pointwise", "sampled_softmax"])
def test_a_whole_training_ends_as_a_dense_one(
    monkeypatch: pytest.MonkeyPatch, model: DeepFMConfig | DINConfig, loss: str
) -> None:
    trained = []
    for above in (1 << 60, 0):
        monkeypatch.setattr(optimizers, "BY_ROWS_ABOVE", above)
        trained.append(train(ROWS, model, CONFIG.model_copy(update={"loss": loss})))
    dense, by_rows = (one.ranker.state_dict() for one in trained)
    assert trained[0].validation_score == pytest.approx(trained[1].validation_score, abs=1e-4)
    # A ranking loss leaves the level of a user's scores free: of that gradient only rounding is left, blown up by Adam.
    for name, value in dense.items() if loss == "pointwise" else ():
        torch.testing.assert_close(by_rows[name], value, rtol=0, atol=2e-4, msg=name)


def test_small_tables_stay_dense_and_a_trained_ranker_is_a_plain_one(monkeypatch: pytest.MonkeyPatch) -> None:
    ranker = build_ranker(DEEPFM, ROWS.spec)
    assert not large_tables(ranker)
    monkeypatch.setattr(optimizers, "BY_ROWS_ABOVE", 0)
    assert list(large_tables(ranker)) == ["user_embedding.table", "item_embedding.table"]
    compiled = Optimizer(ranker, CONFIG.model_copy(update={"compiled": True}))
    assert not compiled.tables
    trained = train(ROWS, DEEPFM, CONFIG).ranker
    assert trained.user_embedding.pull is None
    assert trained.user_embedding.table.is_contiguous()


def test_a_resumed_training_ends_with_the_same_bits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(optimizers, "BY_ROWS_ABOVE", 0)
    training = CONFIG.model_copy(update={"checkpoint_epochs": 1, "max_epochs": 5, "patience": 5})
    model = small_config().model
    train(ROWS, model, training.model_copy(update={"max_epochs": 2}), checkpoint_path=tmp_path / "points")
    resumed = train(ROWS, model, training, checkpoint_path=tmp_path / "points").ranker.state_dict()
    whole = train(ROWS, model, training.model_copy(update={"checkpoint_epochs": 0})).ranker.state_dict()
    assert all(torch.equal(value, whole[name]) for name, value in resumed.items())
