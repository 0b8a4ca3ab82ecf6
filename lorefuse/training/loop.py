"""The training loop: all tensors in memory, one permutation an epoch, no per-row Python, no row dropped.

Suffixes: ``R`` rows, ``B`` batch.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from lorefuse.config import TrainingConfig
from lorefuse.contract import Split
from lorefuse.errors import ConfigError, DataError, DivergedError
from lorefuse.features.training_set import TrainingSet
from lorefuse.models.ranker import Ranker

Weights = tuple[Tensor, ...] | list[Tensor]
EpochCallback = Callable[[int, float], bool]
"""Called after each epoch with its number and validation score; returns True to stop (a pruned trial)."""


@dataclass
class History:
    """What happened in a training run.

    Attributes:
        epochs: One dict an epoch: epoch, train_loss, validation_loss, validation_score, elapsed_s, samples_per_s.
        best_epoch: The epoch whose weights were kept.
    """

    epochs: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0


class Batches:
    """A training set as tensors on one device; batches are gathered from tables by row index.

    Args:
        training_set: The rows.
        device: Where the tensors live.
    """

    def __init__(self, training_set: TrainingSet, device: torch.device) -> None:
        self.spec = training_set.spec

        def tensor(array: NDArray[Any]) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(array)).to(device)

        self.user_row, self.item_row = (
            tensor(training_set.user_row.astype(np.int64)),
            tensor(training_set.item_row.astype(np.int64)),
        )
        self.label, self.value = tensor(training_set.label), tensor(training_set.value)
        user_tables: dict[str, NDArray[Any]] = {"user_fields": training_set.user_fields}
        item_tables: dict[str, NDArray[Any]] = {
            "item_fields": training_set.item_fields,
            "item_multi": training_set.item_multi,
            "item_text": training_set.item_text,
            "item_graph": training_set.item_graph,
        }
        rows: dict[str, NDArray[Any]] = {
            "user_numeric": training_set.user_numeric,
            "user_interest": training_set.user_interest,
            "user_history": training_set.user_history.astype(np.int64),
            "item_numeric": training_set.item_numeric,
        }
        self.user_tables = {k: tensor(v) for k, v in user_tables.items() if v.shape[1]}
        self.item_tables = {k: tensor(v) for k, v in item_tables.items() if v.shape[1]}
        self.rows = {k: tensor(v) for k, v in rows.items() if v.shape[1]}

    def inputs(self, rows_B: Tensor) -> dict[str, Tensor]:
        """Return the ranker's keyword inputs for some rows."""
        users_B, items_B = self.user_row.index_select(0, rows_B), self.item_row.index_select(0, rows_B)
        gathered = ((self.user_tables, users_B), (self.item_tables, items_B), (self.rows, rows_B))
        # index_select copies whole rows; table[rows] costs five times as much on a CPU
        return {name: table.index_select(0, at_B) for tables, at_B in gathered for name, table in tables.items()}


def fit(
    ranker: Ranker,
    training_set: TrainingSet,
    config: TrainingConfig,
    *,
    validation_score: Callable[[NDArray[np.float32]], float],
    on_epoch: EpochCallback | None = None,
) -> History:
    """Train a ranker in place and leave it with the averaged weights of its best epoch, in evaluation mode.

    Args:
        ranker: Freshly built, scalers fitted.
        training_set: The rows.
        config: Batch size, learning rate, penalties, patience, seed.
        validation_score: Judges the scores of the validation rows; higher is better.
        on_epoch: Called after each epoch; may stop the run.

    Raises:
        ConfigError: The device cannot be used.
        DataError: No train or validation rows, or labels of one class only.
        DivergedError: The loss is not finite.

    The same seed, data and number of threads give the same weights, bit for bit.
    """
    device = _device(config.device)
    torch.set_num_threads(config.num_threads)
    batches = Batches(training_set, device)
    train, validation = (
        torch.from_numpy(training_set.rows_of(part)).to(device) for part in (Split.TRAIN, Split.VALIDATION)
    )
    _check(training_set, train, validation)
    ranker.to(device)
    optimizer = _optimizer(ranker, config)
    averaged = AveragedModel(ranker, multi_avg_fn=_moving_average(config.ema_decay))
    judged = cast(Ranker, averaged.module)
    generator = torch.Generator().manual_seed(config.seed)
    history, best_score, best_weights = History(), -np.inf, ranker.state_dict()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(config.seed)  # dropout
        for epoch in range(1, config.max_epochs + 1):
            start_s = time.perf_counter()
            order = train[torch.randperm(len(train), generator=generator).to(device)]
            train_loss = _epoch(ranker, averaged, batches, order, optimizer, config)
            train_s = time.perf_counter() - start_s
            logits = predict(judged, batches, validation)
            validation_loss = float(judged.label_loss(logits, batches.label[validation]))
            _check_finite(train_loss, validation_loss)
            score = validation_score(judged.to_score(logits).cpu().numpy())
            history.epochs.append(
                {
                    "epoch": epoch,
                    "train_loss": train_loss,
                    "validation_loss": validation_loss,
                    "validation_score": score,
                    "elapsed_s": round(train_s, 3),
                    "samples_per_s": round(len(train) / train_s),
                }
            )
            if score > best_score:
                best_score, history.best_epoch = score, epoch
                best_weights = {name: value.clone() for name, value in judged.state_dict().items()}
            stopped = on_epoch is not None and on_epoch(epoch, score)
            if stopped or epoch - history.best_epoch >= config.patience:
                break
    ranker.load_state_dict(best_weights)
    ranker.eval()
    return history


def predict(ranker: Ranker, batches: Batches, rows: Tensor, batch_size: int = 8192) -> Tensor:
    """Return the logits of some rows, (B,), without gradients; dropout off."""
    ranker.eval()
    with torch.no_grad():
        return torch.cat([ranker(**batches.inputs(part)) for part in torch.split(rows, batch_size)])


def _epoch(
    ranker: Ranker,
    averaged: AveragedModel,
    batches: Batches,
    order: Tensor,
    optimizer: torch.optim.Optimizer,
    config: TrainingConfig,
) -> float:
    ranker.train()
    total = torch.zeros((), device=order.device)
    for rows_B in torch.split(order, config.batch_size):
        label_B, value_B = batches.label.index_select(0, rows_B), batches.value.index_select(0, rows_B)
        loss = ranker.loss(batches.inputs(rows_B), label_B, value_B)
        total += loss.detach() * len(rows_B)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        averaged.update_parameters(ranker)
    return float(total) / len(order)


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.zeros((), device=device)
    except (RuntimeError, AssertionError) as error:  # an unknown name, or a device that is not there
        raise ConfigError(
            f"training.device {name!r} cannot be used.", got=str(error).splitlines()[0], fix="set it to cpu"
        ) from None
    return device


def _check_finite(train_loss: float, validation_loss: float) -> None:
    """The validation loss too: a batch's loss is taken before its step, so the last step shows there alone."""
    if not np.isfinite(train_loss + validation_loss):
        raise DivergedError(
            "The training loss is not finite.",
            expected="a finite number",
            got=f"{train_loss} (train), {validation_loss} (validation)",
            fix="lower training.learning_rate",
        )


def _moving_average(decay: float) -> Callable[[Weights, Weights, Tensor | int], None]:
    """Return the update of an exponential moving average of the weights, which is what is judged and kept.

    The decay of step s is min(`decay`, (1 + s) / (10 + s)), so that the first epoch is not an average over its start.
    """

    def update(averaged: Weights, current: Weights, num_averaged: Tensor | int) -> None:
        step = int(num_averaged)
        torch._foreach_lerp_(averaged, current, 1 - min(decay, (1 + step) / (10 + step)))

    return update


def _optimizer(ranker: Ranker, config: TrainingConfig) -> torch.optim.Optimizer:
    """Adam with decoupled decay: embedding tables by `embedding_l2`, everything else by `weight_decay`."""
    tables = ranker.embedding_parameters()
    known = {id(parameter) for parameter in tables}
    dense = [parameter for parameter in ranker.parameters() if id(parameter) not in known]
    groups: list[dict[str, Any]] = [
        {"params": tables, "weight_decay": config.embedding_l2},
        {"params": dense, "weight_decay": config.weight_decay},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)


def _check(training_set: TrainingSet, train: Tensor, validation: Tensor) -> None:
    for name, rows in (("train", train), ("validation", validation)):
        if not len(rows):
            raise DataError(f"There are no {name} rows.", expected="at least one", got="none", fix="bring more data")
    label = training_set.label[train.cpu().numpy()]
    if training_set.spec.label_kind == "binary" and label.min() == label.max():
        raise DataError(
            "All train labels are the same.",
            expected="likes and dislikes",
            got=f"only {label.min():.0f}",
            fix="change data.label.threshold",
        )
