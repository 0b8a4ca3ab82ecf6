from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable

import numpy as np
import pytest
import torch

from lorefuse.config import TrainingConfig
from lorefuse.core.errors import ConfigError, DataError, LorefuseError
from lorefuse.core.schema import SPLIT_CODES, Split
from lorefuse.cpu.threads import torch_threads
from lorefuse.models.build import build_ranker
from lorefuse.models.ranker import Ranker
from lorefuse.training import loop
from lorefuse.training.row_metrics import logloss, rmse
from lorefuse.training.train import score_rows, train
from lorefuse.training_set.arrays import TrainingSet
from tests.helpers.training_rows import make_training_set, small_config

CONFIG = small_config()
NO_GPU = (not torch.cuda.is_available(), "there is no CUDA device: training on a GPU was never measured")


def _fresh(training_set: TrainingSet, seed: int = 0) -> Ranker:
    ranker = build_ranker(CONFIG.model, training_set.spec, seed=seed)
    ranker.prepare(training_set)
    return ranker


def _minus_loss(training_set: TrainingSet) -> Callable[[np.ndarray], float]:
    label = training_set.label[training_set.rows_of(Split.VALIDATION)].astype(np.float64)
    loss = logloss if training_set.spec.label_kind == "binary" else rmse
    return lambda score: -loss(label, score.astype(np.float64))


def _fit(
    training_set: TrainingSet, validation_score: Callable[[np.ndarray], float] | None = None, **changes: object
) -> tuple[Ranker, loop.LearningCurve]:
    ranker = _fresh(training_set)
    judge = validation_score or _minus_loss(training_set)
    config = CONFIG.training.model_copy(update=changes)
    return ranker, loop.fit(ranker, training_set, config, validation_score=judge)


def _weights(ranker: Ranker) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in ranker.state_dict().items()}


def _same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_the_same_seed_gives_the_same_weights_bit_for_bit() -> None:
    training_set = make_training_set()
    first = _weights(_fit(training_set)[0])
    torch.manual_seed(99)  # what others drew does not matter
    before = torch.random.get_rng_state()
    assert _same(first, _weights(_fit(training_set)[0]))
    assert torch.equal(before, torch.random.get_rng_state())  # nor do we disturb them
    assert not _same(first, _weights(_fit(training_set, seed=1)[0]))


def test_an_epoch_sees_every_train_row_once_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    training_set = make_training_set()
    train_rows = training_set.rows_of(Split.TRAIN)
    seen: list[torch.Tensor] = []
    inputs = loop.Batches.inputs

    def counting(batches: loop.Batches, rows: torch.Tensor) -> dict[str, torch.Tensor]:
        if torch.is_grad_enabled():  # not the validation rows
            seen.append(rows)
        return inputs(batches, rows)

    monkeypatch.setattr(loop.Batches, "inputs", counting)
    _fit(training_set, max_epochs=2)
    num_batches = -(-len(train_rows) // 64)
    assert len(train_rows) % 64  # the last batch is a partial one
    assert [len(rows) for rows in seen[:num_batches]] == [64] * (num_batches - 1) + [len(train_rows) % 64]
    epochs = [torch.cat(seen[:num_batches]).numpy(), torch.cat(seen[num_batches:]).numpy()]
    for rows in epochs:
        assert np.array_equal(np.sort(rows), train_rows)
    assert not np.array_equal(*epochs)  # in another order each time


def test_threads_are_given_back() -> None:
    with torch_threads(2):
        _fit(make_training_set(), num_threads=1, max_epochs=1)
        assert torch.get_num_threads() == 2


def test_the_last_partial_batch_moves_the_weights() -> None:
    training_set = make_training_set()
    num_train = len(training_set.rows_of(Split.TRAIN))
    ranker, _ = _fit(training_set, batch_size=num_train + 1, max_epochs=1)  # nothing but a partial batch
    assert not _same(_weights(ranker), _weights(_fresh(training_set)))


def test_the_best_epochs_weights_are_kept() -> None:
    training_set = make_training_set()
    scores = iter([0.1, 0.9, 0.2, 0.3, 0.4])
    kept, history = _fit(training_set, lambda _: next(scores), max_epochs=10, patience=3)
    assert (history.best_epoch, len(history.epochs)) == (2, 5)
    rising = iter([0.1, 0.9])
    assert _same(_weights(kept), _weights(_fit(training_set, lambda _: next(rising), max_epochs=2)[0]))
    assert not kept.training


def test_what_was_judged_is_what_is_kept() -> None:
    training_set = make_training_set()
    ranker, history = _fit(training_set, max_epochs=6)
    scores = score_rows(ranker, training_set, training_set.rows_of(Split.VALIDATION))
    best = max(epoch["validation_score"] for epoch in history.epochs)
    assert _minus_loss(training_set)(scores) == best
    assert best == history.epochs[history.best_epoch - 1]["validation_score"]


def test_it_learns() -> None:
    training_set = make_training_set(num_rows=2000)
    _, history = _fit(training_set, max_epochs=12, patience=12)
    losses = [epoch["train_loss"] for epoch in history.epochs]
    assert losses[-1] < 0.9 * losses[0]
    assert history.epochs[-1]["validation_loss"] < 0.6  # a coin's is 0.693


@pytest.mark.parametrize("decay", [0.0, 0.98])
def test_the_average_is_the_last_weights_or_a_mean_of_steps(decay: float) -> None:
    """With decay 0 the kept weights are the optimizer's own; else they follow min(decay, (1 + s) / (10 + s))."""
    training_set = make_training_set()
    steps: list[torch.Tensor] = []
    step = torch.optim.AdamW.step

    def recording(optimizer: torch.optim.Optimizer, *args: object) -> None:
        step(optimizer, *args)
        steps.append(optimizer.param_groups[0]["params"][0].detach().clone())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", recording)
        ranker, _ = _fit(training_set, max_epochs=1, ema_decay=decay)
    expected = steps[0]
    for number, weights in enumerate(steps[1:], start=1):
        keep = min(decay, (1 + number) / (10 + number))
        expected = keep * expected + (1 - keep) * weights
    torch.testing.assert_close(ranker.embedding_parameters()[0].detach(), expected)


def test_a_callback_may_stop() -> None:
    training_set, ranker = make_training_set(), _fresh(make_training_set())
    history = loop.fit(
        ranker,
        training_set,
        CONFIG.training.model_copy(update={"max_epochs": 9}),
        validation_score=_minus_loss(training_set),
        on_epoch=lambda epoch, _: epoch == 2,
    )
    assert [epoch["epoch"] for epoch in history.epochs] == [1, 2]


@pytest.mark.parametrize("batch_size", [64, 9999])
def test_an_absurd_learning_rate_is_named(batch_size: int) -> None:
    """Also where the only step of the only epoch spoils the weights, after its own loss was taken."""
    with pytest.raises(LorefuseError, match=r"(?s)not finite.*training\.learning_rate"):
        _fit(make_training_set(), learning_rate=1e30, batch_size=batch_size, max_epochs=1)


@pytest.mark.parametrize("part", [Split.TRAIN, Split.VALIDATION])
def test_a_part_without_rows_is_refused(part: Split) -> None:
    training_set = make_training_set()
    codes = np.where(training_set.split_code == SPLIT_CODES[part], SPLIT_CODES[Split.EXCLUDED], training_set.split_code)
    empty = dataclasses.replace(training_set, split_code=codes.astype(np.uint8))
    with pytest.raises(DataError, match=f"no {part} rows"):
        loop.fit(_fresh(training_set), empty, CONFIG.training, validation_score=lambda _: 0.0)


@pytest.mark.parametrize("device", ["warp", "cuda:99"])
def test_a_device_that_is_not_there_is_refused(device: str) -> None:
    with pytest.raises(ConfigError, match=f"(?s)training.device '{device}'.*set it to cpu"):
        _fit(make_training_set(), device=device)


@pytest.mark.parametrize(
    "device", ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, pytest.mark.skipif(NO_GPU[0], reason=NO_GPU[1])])]
)
@pytest.mark.parametrize("model", [{"family": "deepfm"}, {"family": "din"}])
def test_bfloat16_learns_what_float32_does(device: str, model: dict[str, str]) -> None:
    """Weights stay float32, and the best validation loss is that of float32 but for rounding."""
    training_set = make_training_set(num_rows=1500)
    section = small_config().model_validate({**CONFIG.model_dump(), "model": model}).model
    best = {}
    for precision in ("float32", "bfloat16"):
        changed = CONFIG.training.model_copy(update={"precision": precision, "device": device})
        trained = train(training_set, section, changed)
        assert {value.dtype for value in trained.ranker.parameters()} == {torch.float32}
        best[precision] = trained.validation_score
    assert best["bfloat16"] != best["float32"]
    assert best["bfloat16"] == pytest.approx(best["float32"], abs=0.03)


@pytest.mark.parametrize(
    "device",
    [
        pytest.param("cpu", marks=pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs g++")),
        pytest.param("cuda", marks=[pytest.mark.gpu, pytest.mark.skipif(NO_GPU[0], reason=NO_GPU[1])]),
    ],
)
def test_a_compiled_step_gives_the_weights_of_a_plain_one(device: str) -> None:
    """Without dropout, whose draws differ; the ranker that comes out is no longer a compiled one."""
    training_set, weights = make_training_set(num_rows=600), []
    model = {"family": "wide_deep", "dropout": 0.0, "id_dropout": 0.0}
    section = small_config().model_validate({**CONFIG.model_dump(), "model": model}).model
    for compiled in (False, True):
        changed = CONFIG.training.model_copy(update={"compiled": compiled, "device": device, "max_epochs": 2})
        ranker = train(training_set, section, changed).ranker
        assert ranker._compiled_call_impl is None
        weights.append(ranker.cpu().state_dict())
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.gpu
@pytest.mark.skipif(NO_GPU[0], reason=NO_GPU[1])
def test_a_gpu_gives_the_weights_of_a_cpu() -> None:
    training_set = make_training_set()
    weights = [_fit(training_set, device=device, max_epochs=1)[0].cpu().state_dict() for device in ("cpu", "cuda")]
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, rtol=1e-3, atol=1e-4, msg=name)


def test_labels_of_one_class_are_refused() -> None:
    training_set = make_training_set()
    liked = dataclasses.replace(training_set, label=np.ones_like(training_set.label))
    with pytest.raises(DataError, match=r"(?s)All train labels are the same.*threshold"):
        loop.fit(_fresh(training_set), liked, CONFIG.training, validation_score=lambda _: 0.0)


def test_regression_beats_the_mean() -> None:
    training_set = make_training_set(num_rows=1500, label_kind="regression")
    training = CONFIG.training.model_copy(update={"max_epochs": 30, "patience": 30})
    trained = train(training_set, CONFIG.model, training)
    rows = training_set.rows_of(Split.VALIDATION)
    scores = score_rows(trained.ranker, training_set, rows)
    label = training_set.label[rows].astype(np.float64)
    assert trained.validation_score == -rmse(label, scores.astype(np.float64))
    assert rmse(label, scores.astype(np.float64)) < label.std()
    assert scores.max() > 1  # values, not probabilities


@pytest.mark.parametrize(("text_dim", "graph_dim"), [(0, 0), (4, 0), (0, 3)])
def test_without_text_or_graph(text_dim: int, graph_dim: int) -> None:
    trained = train(make_training_set(text_dim=text_dim, graph_dim=graph_dim), CONFIG.model, CONFIG.training)
    assert np.isfinite(trained.validation_score)


def test_test_rows_are_not_looked_at() -> None:
    training_set = make_training_set()
    rows = training_set.rows_of(Split.TEST)
    label = training_set.label.copy()
    label[rows] = 1 - label[rows]
    flipped = dataclasses.replace(training_set, label=label)
    training = TrainingConfig(batch_size=64, max_epochs=2, num_threads=1)
    one, other = (train(each, CONFIG.model, training) for each in (training_set, flipped))
    assert _same(_weights(one.ranker), _weights(other.ranker))
