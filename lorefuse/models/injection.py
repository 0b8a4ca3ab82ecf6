"""Ways for knowledge to reach the ids other than through the input: an alignment loss, and initial id vectors.

Suffixes: ``n`` items, ``D`` id dim, ``E`` knowledge dim.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from lorefuse.models.layers import NumericScaler
from lorefuse.training_set.arrays import TrainingSet

MAX_ALIGNED = 512
"""Distinct items of a batch that enter the alignment loss: its cost grows with their square."""
INITIAL_STD = 0.05
"""Deviation of id vectors that start from knowledge: five times that of random ones, yet small beside trained ones."""


class AlignmentLoss(nn.Module):
    """Contrastive loss that pulls an item's id vector to the image of its own knowledge, away from other items'.

    ``−log exp(cos(idᵢ, W·kᵢ)/τ) / Σⱼ exp(cos(idᵢ, W·kⱼ)/τ)``, averaged over the distinct known items of a batch that
    have knowledge.

    Args:
        knowledge_dim: E, all knowledge vectors side by side.
        embedding_dim: D.
        weight: Factor in the total loss.
        temperature: τ.

    Source: RLMRec-Con, arXiv:2310.15950, section 3.3. We align the id embedding before any interaction, and items
    alone.
    """

    def __init__(self, knowledge_dim: int, embedding_dim: int, *, weight: float, temperature: float) -> None:
        super().__init__()
        self.weight, self.temperature = weight, temperature
        self.scaler = NumericScaler(knowledge_dim)
        self.project = nn.Linear(knowledge_dim, embedding_dim)

    def fit(self, knowledge_NE: Tensor, times_N: Tensor) -> None:
        """Fit the scaling on the items' vectors, each counted for its train rows; rows of zeros do not count."""
        self.scaler.fit_present(knowledge_NE, times_N, knowledge_NE.shape[1])

    def forward(self, id_nD: Tensor, knowledge_nE: Tensor) -> Tensor:
        """Return the weighted loss, a scalar; 0 for fewer than two items.

        Args:
            id_nD: Id vectors of distinct items.
            knowledge_nE: Their knowledge.
        """
        if len(id_nD) < 2:
            return id_nD.sum() * 0
        ids = nn.functional.normalize(id_nD, dim=1)
        told = nn.functional.normalize(self.project(self.scaler(knowledge_nE)), dim=1)
        logits_nn = ids @ told.T / self.temperature
        return self.weight * nn.functional.cross_entropy(logits_nn, torch.arange(len(ids), device=ids.device))


def distinct_items(id_index_B: Tensor, has_knowledge_B: Tensor) -> Tensor:
    """Return the batch positions of at most `MAX_ALIGNED` distinct known items with knowledge, drawn at random."""
    usable = torch.nonzero((id_index_B > 0) & has_knowledge_B).squeeze(1)
    usable = usable[torch.randperm(len(usable), device=usable.device)]
    values, inverse = torch.unique(id_index_B[usable], return_inverse=True)
    places = torch.arange(len(usable), device=usable.device)
    first = torch.full_like(values, len(usable)).scatter_reduce(0, inverse, places, "amin")
    return usable[first.sort().values[:MAX_ALIGNED]]


def initial_ids(training_set: TrainingSet, names: Sequence[str], embedding_dim: int) -> tuple[Tensor, Tensor]:
    """Return vocabulary indices of train items with knowledge, and initial id vectors made of it.

    The vectors side by side, each of unit size, go through PCA to D dimensions (zeros where they have fewer), fitted
    on the items themselves, and are scaled to a deviation of `INITIAL_STD`.

    Args:
        training_set: Item tables and rows.
        names: Which knowledge to use, names of item tensors.
        embedding_dim: D.

    Returns:
        int64 (n,) and float32 (n, D).

    Source: ids initialised by language-model embeddings, LLM2Rec-like; see the summary in AlphaFuse, arXiv:2504.19218.
    """
    index = training_set.item_fields[:, 0]
    tables = [np.asarray(training_set.item_table(name), dtype=np.float64) for name in names]
    present = np.abs(np.concatenate(tables, axis=1)).sum(1) > 0
    rows = np.flatnonzero((index > 0) & present)
    parts = [table[rows] / max(float(np.linalg.norm(table[rows], axis=1).mean()), 1e-12) for table in tables]
    joined = np.concatenate(parts, axis=1)
    joined -= joined.mean(0) if len(rows) else 0.0
    _, _, axes = np.linalg.svd(joined, full_matrices=False)
    axes *= np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(1)])[:, None] if len(axes) else 1.0
    reduced = joined @ axes[:embedding_dim].T
    reduced *= INITIAL_STD / max(float(reduced.std()), 1e-12) if len(rows) else 1.0
    padded = np.zeros((len(rows), embedding_dim), dtype=np.float32)
    padded[:, : reduced.shape[1]] = reduced
    return torch.from_numpy(index[rows]), torch.from_numpy(padded)
