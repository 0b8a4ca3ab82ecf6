"""Epochs over likes: tensors in memory, one permutation an epoch, the best epoch's weights kept."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from lorefuse.config.retrieval import EpochsConfig
from lorefuse.core.errors import DivergedError
from lorefuse.core.progress import track
from lorefuse.cpu.threads import torch_threads
from lorefuse.retrieval.tables import FieldSum


def train_epochs(
    module: nn.Module,
    num_rows: int,
    loss_of: Callable[[Tensor, torch.Generator], Tensor],
    config: EpochsConfig,
    *,
    seed: int,
    weight_decay: float = 0.0,
    validate: Callable[[], float] | None = None,
) -> list[dict[str, float]]:
    """Train a module in place and leave it in evaluation mode.

    Args:
        module: What is trained.
        num_rows: Likes; each is used once an epoch.
        loss_of: Positions of a batch's likes and the source of further draws → loss.
        config: Batch size, learning rate, epochs, patience, threads.
        seed: Of shuffling, further draws and dropout.
        weight_decay: Decoupled; tables whose gradients are sparse have none.
        validate: Judges the module as it is, higher is better. With it, training stops after `patience` epochs without
            a better one and the best epoch's weights are kept; without it, all epochs are run.

    Returns:
        One dict an epoch: epoch, train_loss and, with `validate`, validation_score.

    Raises:
        DivergedError: The loss is not finite.

    The same seed, data and number of threads give the same weights, bit for bit.
    """
    optimizers = _optimizers(module, config.learning_rate, weight_decay)
    generator = torch.Generator().manual_seed(seed)
    epochs: list[dict[str, float]] = []
    best_score, best_epoch, best_weights = -np.inf, 0, module.state_dict()
    with torch_threads(config.num_threads), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # dropout
        for epoch in track(range(1, config.max_epochs + 1), f"Training {type(module).__name__}"):
            train_loss = _epoch(
                module, torch.randperm(num_rows, generator=generator), loss_of, optimizers, generator, config
            )
            epochs.append({"epoch": epoch, "train_loss": train_loss})
            if not np.isfinite(train_loss):
                raise DivergedError(
                    "The loss of a recommender is not finite.",
                    expected="a finite number",
                    got=str(train_loss),
                    fix="lower its learning_rate",
                )
            if validate is None:
                continue
            module.eval()
            score = epochs[-1]["validation_score"] = validate()
            if score > best_score:
                best_score, best_epoch = score, epoch
                best_weights = {name: value.clone() for name, value in module.state_dict().items()}
            if epoch - best_epoch >= config.patience:
                break
    module.load_state_dict(best_weights)  # without validation these are the weights themselves
    module.eval()
    return epochs


def _optimizers(module: nn.Module, learning_rate: float, weight_decay: float) -> list[torch.optim.Optimizer]:
    """Return AdamW for what each step moves and SparseAdam, without decay, for tables of which it moves a few rows."""
    tables = [part.table for part in module.modules() if isinstance(part, FieldSum) and part.sparse]
    dense = [weight for weight in module.parameters() if not any(weight is table for table in tables)]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(dense, lr=learning_rate, weight_decay=weight_decay, fused=True)
    ]
    if tables:
        optimizers.append(torch.optim.SparseAdam(tables, lr=learning_rate))
    return optimizers


def _epoch(
    module: nn.Module,
    order: Tensor,
    loss_of: Callable[[Tensor, torch.Generator], Tensor],
    optimizers: list[torch.optim.Optimizer],
    generator: torch.Generator,
    config: EpochsConfig,
) -> float:
    module.train()
    total = torch.zeros(())
    for rows_B in torch.split(order, config.batch_size):
        loss = loss_of(rows_B, generator)
        total += loss.detach() * len(rows_B)
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        for optimizer in optimizers:
            optimizer.step()
    return float(total) / len(order)
