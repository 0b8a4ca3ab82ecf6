"""What the trained recommenders share: sums of field embeddings, the items' knowledge, weights on disk.

Suffixes: ``B`` rows asked for, ``U`` users, ``N`` items, ``F`` fields, ``D`` embedding width.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor, nn

from lorefuse.core.errors import ArtifactError, UsageError
from lorefuse.core.schema import TEXT
from lorefuse.embedding.reduce import fit_reducer
from lorefuse.retrieval.recommender import Side

WEIGHTS_FILE = "recommender.safetensors"
SPARSE_ABOVE = 200_000
"""Rows of a table above which a step moves only those that its batch has: else steps × rows grow with the square."""
_SPARSE_START = 0.1


class FieldSum(nn.Module):
    """Embed the categorical fields of each row of a table and add them up; all fields share one weight matrix.

    Args:
        fields: int64 (rows, F), the id first; index 0 is unseen.
        embedding_dim: D.
        id_dropout: Share of ids replaced by index 0 in a training step; a row keeps or loses its id as a whole.
        by_rows: Training asks for the rows of a batch, never for all: gradients of a large table are sparse.

    Attributes:
        sparse: Gradients of the table are sparse. Rows that are seldom asked for are then not decayed towards zero, so
            they start ten times nearer to it.
    """

    index: Tensor

    def __init__(self, fields: Tensor, embedding_dim: int, id_dropout: float, *, by_rows: bool = False) -> None:
        super().__init__()
        sizes = fields.max(dim=0).values + 1
        self.register_buffer("index", fields + torch.cat([torch.zeros(1, dtype=torch.int64), sizes.cumsum(0)[:-1]]))
        self.table = nn.Parameter(torch.empty(int(sizes.sum()), embedding_dim))
        self.sparse = by_rows and len(self.table) > SPARSE_ABOVE
        nn.init.normal_(self.table, std=embedding_dim**-0.5 * (_SPARSE_START if self.sparse else 1))
        self.id_dropout = id_dropout

    def forward(self, rows_B: Tensor | None = None) -> Tensor:
        """Return the sums of some rows, of all by default, (B, D)."""
        index_BF = self.index if rows_B is None else self.index.index_select(0, rows_B)
        if self.training and self.id_dropout:
            keep_B = torch.rand(len(index_BF), device=index_BF.device) >= self.id_dropout
            index_BF = torch.cat([index_BF[:, :1] * keep_B[:, None], index_BF[:, 1:]], dim=1)
        sum_BD: Tensor = nn.functional.embedding(index_BF, self.table, sparse=self.sparse).sum(dim=1)
        return sum_BD


@dataclass(frozen=True)
class KnowledgeMaps:
    """Affine maps from an item's vectors to its columns of `Knowledge`; None where that part is missing.

    Attributes:
        text: Weight (E', E) and bias (E,); items without text get zeros instead.
        scales: Factors of the other blocks' vectors, by name, in the order of their columns.
    """

    text: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None
    scales: dict[str, float] = field(default_factory=dict)


class Knowledge(nn.Module):
    """Frozen knowledge vectors of the items, side by side, the text's first.

    Args:
        values: float32 (N, E); width 0 where nothing is known.
        maps: How an item's columns come from its vectors, for items that join later.
    """

    values: Tensor

    def __init__(self, values: Tensor, maps: KnowledgeMaps | None = None) -> None:
        super().__init__()
        self.register_buffer("values", values)
        self.width = values.shape[1]
        self.maps = maps or KnowledgeMaps()


def knowledge_of(side: Side, train_UN: csr_array, text_dim: int) -> Knowledge:
    """Reduce the text by PCA, fitted on liked train items, and put other vectors beside it; each has length ≈ 1.

    Args:
        side: Knowledge of the items.
        train_UN: Tells which items are of train.
        text_dim: Leading components; text that is no wider stays as it is, but for its scale. 0: ids alone.

    Raises:
        ConfigError: The train items' text has fewer directions than `text_dim`.
    """
    parts: list[NDArray[np.float32]] = []
    text_map, scales = None, {}
    liked_N = np.bincount(train_UN.indices, minlength=train_UN.shape[1]) > 0
    if side.text is not None and text_dim and side.text.shape[1]:
        has_text = np.asarray(side.text.any(axis=1), dtype=np.bool_)
        reducer = fit_reducer(side.text, np.flatnonzero(liked_N & has_text), min(text_dim, side.text.shape[1]))
        parts.append(reducer.transform(side.text, has_text))
        scale = _mean_length(parts[0], liked_N)
        weight, bias = reducer.affine()
        text_map = (weight / scale, bias / scale)
    others = {name: vectors for name, vectors in side.knowledge.items() if name != TEXT and vectors.shape[1]}
    for name, vectors in others.items() if text_dim else ():
        parts.append(vectors)
        scales[name] = 1 / _mean_length(vectors, liked_N)
    scaled = [part / _mean_length(part, liked_N) for part in parts]
    values = np.concatenate(scaled, axis=1) if scaled else np.zeros((train_UN.shape[1], 0))
    return Knowledge(torch.from_numpy(values.astype(np.float32)), KnowledgeMaps(text_map, scales))


def _mean_length(part: NDArray[np.float32], liked_N: NDArray[np.bool_]) -> float:
    return max(float(np.linalg.norm(part[liked_N], axis=1).mean()), 1e-12)


def liked_only(train_UN: csr_array, side: Side) -> tuple[Tensor, Tensor]:
    """Return the fields of users and items, (U, Fu) and (N, Fi), with the ids of those without a like set to unseen.

    Without fields in `side` the ids alone are made.

    Raises:
        UsageError: The fields do not fit the train matrix.
    """
    result = []
    for axis, fields in ((0, side.user_fields), (1, side.item_fields)):
        num_rows = train_UN.shape[axis]
        if fields is not None and len(fields) != num_rows:
            raise UsageError(
                "The fields do not fit the likes.", expected=f"{num_rows} rows of fields", got=str(len(fields))
            )
        has_like = np.diff(train_UN.indptr) > 0 if axis == 0 else np.bincount(train_UN.indices, minlength=num_rows) > 0
        ids = (np.arange(num_rows, dtype=np.int64) + 1) * has_like
        others = np.zeros((num_rows, 0), dtype=np.int64) if fields is None else fields[:, 1:].astype(np.int64)
        result.append(torch.from_numpy(np.concatenate([ids[:, None], others], axis=1)))
    return result[0], result[1]


def save_weights(module: nn.Module, folder_path: Path) -> None:
    """Write a module's weights, its frozen tables among them, into a folder."""
    from safetensors.torch import save_file

    save_file(
        {name: value.contiguous() for name, value in module.state_dict().items()}, str(folder_path / WEIGHTS_FILE)
    )


def load_weights(module: nn.Module, folder_path: Path) -> None:
    """Read weights that `save_weights` wrote into a module of the same widths, and leave it in evaluation mode.

    Raises:
        ArtifactError: The file is missing, cut short, or of another module.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = folder_path / WEIGHTS_FILE
    try:
        module.load_state_dict(load_file(str(path)))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise ArtifactError(f"{path} does not fit this recommender.", got=str(error), fix="fit it again") from None
    module.eval()
