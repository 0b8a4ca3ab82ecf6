"""The training loop: all tensors in memory, one permutation an epoch, no per-row Python, no row dropped.

Suffixes: ``R`` rows, ``B`` batch.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lorefuse.config import TrainingConfig
from lorefuse.core.schema import Split
from lorefuse.cpu.allocator import keep_freed_memory
from lorefuse.cpu.threads import torch_threads
from lorefuse.models.ranker import Ranker
from lorefuse.training.batches import Batches
from lorefuse.training.checkpoint import Checkpoints, Progress
from lorefuse.training.checks import check_finite, check_rows
from lorefuse.training.ddp import Shared
from lorefuse.training.device import device_of
from lorefuse.training.ema import LearningCurve, copied_weights
from lorefuse.training.optimizer import Optimizer
from lorefuse.training.order import Drawn, order_of
from lorefuse.training.step import predict, step_loss
from lorefuse.training_set.arrays import TrainingSet

_log = logging.getLogger(__name__)
EpochCallback = Callable[[int, float], bool]
"""Called after each epoch with its number and validation score; returns True to stop (a pruned trial)."""
NUM_WATCHED = 4096
"""Validation rows on which the ranker's diagnostics are taken after each epoch."""
COLLAPSED = 0.95
"""More saturated gates than this share are reported."""


def fit(
    ranker: Ranker,
    training_set: TrainingSet,
    config: TrainingConfig,
    *,
    validation_score: Callable[[NDArray[np.float32]], float],
    on_epoch: EpochCallback | None = None,
    checkpoint_path: Path | None = None,
) -> LearningCurve:
    """Train a ranker in place and leave it with the averaged weights of its best epoch, in evaluation mode.

    In a process group (started by torchrun, joined by `ddp.process_group`) each process takes its share of every
    batch, and all end with the weights that one process alone would have, but for the order of sums.

    Args:
        ranker: Freshly built, scalers fitted.
        training_set: The rows.
        config: Batch size, learning rate, penalties, patience, seed. With `privacy` the steps are those of
            `private.fit_private`, and the last weights are kept.
        validation_score: Judges the scores of the validation rows; higher is better.
        on_epoch: Called after each epoch; may stop the run.
        checkpoint_path: Folder of checkpoints; a run that was killed goes on after its last one and ends as an
            undisturbed one. The folder must belong to these rows and settings alone; None: none are written.

    Raises:
        ConfigError: The device cannot be used.
        DataError: No train or validation rows, or labels of one class only.
        DivergedError: The loss is not finite.
        ArtifactError: A checkpoint belongs to another ranker, or not all processes see it.

    The same seed, data and number of threads give the same weights, bit for bit, on CPUs of one kind.
    """
    if config.privacy is not None:
        from lorefuse.training.private import fit_private

        return fit_private(ranker, training_set, config, validation_score=validation_score, on_epoch=on_epoch)
    device = device_of(config.device)
    keep_freed_memory()
    parts = [training_set.rows_of(part) for part in (Split.TRAIN, Split.VALIDATION)]
    train, validation = (torch.from_numpy(part).to(device) for part in parts)
    check_rows(training_set, train, validation)
    batches = Batches(training_set, device, ranker, np.concatenate(parts))
    ranker.to(device)
    optimizer = Optimizer(ranker, config)
    judged = optimizer.average.ranker
    generator = torch.Generator().manual_seed(config.seed)
    if config.compiled:  # after the average has copied the ranker: what is judged is not compiled
        ranker.compile(mode="reduce-overhead" if device.type == "cuda" else "default", dynamic=False)
    shared = Shared.joined(ranker, batches, optimizer)
    rank, size = (shared.rank, shared.size) if shared else (0, 1)
    draw = order_of(training_set, config, generator, device, rank=rank, size=size)
    checkpoints = None
    if checkpoint_path is not None and config.checkpoint_epochs:
        checkpoints = Checkpoints(checkpoint_path, ranker, optimizer, generator, device)
    cuda = [device] if device.type == "cuda" else []
    with torch_threads(config.num_threads), torch.random.fork_rng(devices=cuda):
        torch.manual_seed(config.seed)  # dropout
        run = (checkpoints.resume() if checkpoints else None) or Progress(best_weights=ranker.state_dict())
        epoch, stopped = len(run.history.epochs), False
        while not stopped and epoch < config.max_epochs and epoch - run.history.best_epoch < config.patience:
            epoch += 1
            start_s = time.perf_counter()
            train_loss, num_rows = _epoch(ranker, batches, draw(), optimizer, config, shared)
            train_s = time.perf_counter() - start_s
            logits = predict(judged, batches, validation) if shared is None else shared.predict(judged, validation)
            validation_loss = float(judged.label_loss(logits, batches.label[validation]))
            check_finite(train_loss, validation_loss)
            score = validation_score(judged.to_score(logits).cpu().numpy())
            run.history.epochs.append(
                {
                    "epoch": epoch,
                    "train_loss": train_loss,
                    "validation_loss": validation_loss,
                    "validation_score": score,
                    "elapsed_s": round(train_s, 3),
                    "samples_per_s": round(num_rows / train_s),
                    **_watched(judged, batches, validation[:NUM_WATCHED]),
                }
            )
            if score > run.best_score:
                run.best_score, run.history.best_epoch = score, epoch
                run.best_weights = copied_weights(judged)
            stopped = on_epoch is not None and on_epoch(epoch, score)
            if checkpoints is not None and epoch % config.checkpoint_epochs == 0:
                checkpoints.save(run)
    ranker.load_state_dict(run.best_weights)
    optimizer.release()
    ranker.eval()
    ranker._compiled_call_impl = None
    history = run.history
    if history.epochs[history.best_epoch - 1].get("gate_saturated", 0.0) > COLLAPSED:
        _log.warning("the fusion's gates have collapsed: more than %.0f %% are open or shut for good", 100 * COLLAPSED)
    return history


@torch.no_grad()
def _watched(ranker: Ranker, batches: Batches, rows: Tensor) -> dict[str, float]:
    return ranker.diagnostics(batches.inputs(rows))


def _epoch(
    ranker: Ranker,
    batches: Batches,
    steps: Iterable[Drawn],
    optimizer: Optimizer,
    config: TrainingConfig,
    shared: Shared | None = None,
) -> tuple[float, int]:
    """Make an epoch's steps; return the mean loss, and how many rows (candidates of a ranking loss) all saw."""
    ranker.train()
    device = batches.label.device
    total, num_drawn, num_rows = torch.zeros((), device=device), 0, 0
    for drawn in steps:
        with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bfloat16"):
            loss = step_loss(ranker, batches, drawn.rows) if shared is None else shared(drawn)
        total += loss.detach() * drawn.num_rows
        num_drawn += drawn.num_rows
        num_rows += drawn.num_rows * (drawn.rows.shape[1] if drawn.rows.ndim > 1 else 1)
        optimizer.step(loss)
    optimizer.settle()
    return float(total if shared is None else shared.mean(total)) / num_drawn, num_rows
