"""RecTools' SASRec on sequences from a file: its data preparator, network, initialisation and trainer, epoch by epoch.

Commands come in as JSON lines, answers go out as JSON lines. Its softmax loss is worked out where there is a like to
tell: by itself it scores the whole catalogue at each place of the padding too, which the loss then leaves out. The
value is the same; on a CPU an epoch of Amazon Beauty would take several times as long.
"""

from __future__ import annotations

import copy
import json
import logging
import os
import sys
import time
import warnings

import numpy as np
import pandas as pd
import torch
from pytorch_lightning import seed_everything
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel
from rectools.models.nn.item_net import IdEmbeddingsItemNet
from rectools.models.nn.transformers.lightning import TransformerLightningModule


class WherePadded(TransformerLightningModule):
    """The softmax loss without the places whose loss is left out."""

    def training_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> torch.Tensor:
        """Return the mean of −log softmax over all items and all likes of the batch."""
        item_vectors = self.torch_model.item_model.get_all_embeddings()
        states = self.torch_model.encode_sessions(batch, item_vectors)
        wanted = batch["y"] != 0
        return torch.nn.functional.cross_entropy(states[wanted] @ item_vectors.T, batch["y"][wanted])


def _dataset(user: np.ndarray, item: np.ndarray, position: np.ndarray) -> Dataset:
    frame = {Columns.User: user, Columns.Item: item, Columns.Weight: 1.0}
    return Dataset.construct(pd.DataFrame({**frame, Columns.Datetime: pd.to_datetime(position, unit="D")}))


def _ranked(model: SASRecModel, known: Dataset, users: np.ndarray, k: int) -> np.ndarray:
    """Return the best items of some users, what they had before left out, (users, k)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = model.recommend(users, known, k, filter_viewed=True)
    place = pd.Index(users).get_indexer(found[Columns.User])
    ranked = np.full((len(users), k), -1)
    ranked[place, found[Columns.Rank] - 1] = found[Columns.Item]
    return ranked


def _ndcg(ranked: np.ndarray, wanted: np.ndarray) -> float:
    """Return the mean of 1 / log2(rank + 1) of the one wanted item."""
    hit = ranked == wanted[:, None]
    return float((hit / np.log2(np.arange(ranked.shape[1]) + 2)).sum(axis=1).mean())


def fit(
    rows: str, out: str, seed: int, max_epochs: int, patience: int, num_threads: int, batch_size: int, **sizes: float
) -> dict[str, float]:
    """Train on all but each user's last two likes, stop by the last but one, and write the ranking for the last.

    Args:
        rows: npz of user, item and position, and part: 0 train, 1 validation, 2 test.
        out: npy of item rows, users ascending.
        seed: Of the training.
        max_epochs: At most.
        patience: Epochs without a better NDCG@10 of validation, of at most 4,000 users, before stopping.
        num_threads: torch threads.
        batch_size: Sequences a step.
        sizes: Further arguments of `SASRecModel`.
    """
    torch.set_num_threads(num_threads)
    seed_everything(seed)
    with np.load(rows, allow_pickle=False) as file:
        user, item, position, part = (file[name] for name in ("user", "item", "position", "part"))
    train, before = (_dataset(user[kept], item[kept], position[kept]) for kept in (part == 0, part < 2))
    judged = np.unique(user)[:: -(-len(np.unique(user)) // 4000)]
    wanted = pd.Series(item[part == 1], index=user[part == 1])[judged].to_numpy()
    model = SASRecModel(
        epochs=1, batch_size=batch_size, item_net_block_types=(IdEmbeddingsItemNet,),
        lightning_module_type=WherePadded, recommend_torch_device="cpu", **sizes,
    )  # fmt: skip
    start_s, best, best_epoch, weights = time.perf_counter(), -1.0, 0, {}
    for epoch in range(1, max_epochs + 1):
        model.fit_partial(train, 1, 1)
        score = _ndcg(_ranked(model, train, judged, 10), wanted)
        print(f"rectools, seed {seed}, epoch {epoch}: {score:.5f}, {time.perf_counter() - start_s:.0f} s", flush=True)
        if score > best:
            best, best_epoch = score, epoch
            weights = copy.deepcopy(model.lightning_model.torch_model.state_dict())
        if epoch - best_epoch >= patience:
            break
    model.lightning_model.torch_model.load_state_dict(weights)
    np.save(out, _ranked(model, before, np.unique(user), 20))
    return {"validation": best, "epochs": epoch, "elapsed_s": time.perf_counter() - start_s}


def main() -> None:
    """Answer until the input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    for line in sys.stdin:
        print(json.dumps(fit(**json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()
