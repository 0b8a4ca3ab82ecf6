"""LightGCN: embeddings of users and items, smoothed over the graph of who liked what.

Suffixes: ``B`` likes of a batch, ``U`` users, ``N`` items, ``V`` nodes (users, then items), ``D`` embedding width.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor, nn

from lorefuse.config.retrieval import LightGCNConfig
from lorefuse.retrieval.loop import train_epochs
from lorefuse.retrieval.losses import bpr
from lorefuse.retrieval.negatives import draw_unliked
from lorefuse.retrieval.recommender import Recommender, Rows, Side
from lorefuse.retrieval.tables import Knowledge, knowledge_of, load_weights, save_weights


class Propagation(nn.Module):
    """The trained part of `LightGCN`: layer 0, and its mean with what the graph makes of it.

    With Â the adjacency scaled by 1 / sqrt(degree · degree), layer l + 1 is Â · layer l, and a node's vector is the
    mean of all layers.

    Args:
        likes_UN: Stored entries are the edges.
        knowledge: Text and graph of the items, added to their layer 0 through a learned map; width 0: ids alone.
        embedding_dim: D.
        num_layers: Steps of propagation.

    Source: LightGCN, arXiv:2002.02126, eqs. 3 to 8, with the paper's α of 1 / (layers + 1).
    """

    def __init__(self, likes_UN: csr_array, knowledge: Knowledge, embedding_dim: int, num_layers: int) -> None:
        super().__init__()
        self.num_users, self.num_items = likes_UN.shape
        self.num_layers, self.knowledge = num_layers, knowledge
        self.table = nn.Parameter(torch.empty(self.num_users + self.num_items, embedding_dim))
        nn.init.normal_(self.table, std=0.1)
        self.residual = nn.Linear(knowledge.width, embedding_dim, bias=False) if knowledge.width else None
        # Held apart from the weights: it is the data, and safetensors holds no sparse tensor.
        self.adjacency_VV = normalised_adjacency(likes_UN)
        has_like = (np.diff(likes_UN.indptr) > 0, np.bincount(likes_UN.indices, minlength=self.num_items) > 0)
        self.register_buffer("has_like", torch.from_numpy(np.concatenate(has_like)))

    def layer_0(self) -> Tensor:
        """Return what the layers start from, (V, D); without a like an item has its text alone, a user zeros."""
        start_VD = self.table * self.get_buffer("has_like")[:, None]
        if self.residual is None:
            return start_VD
        text_ND = self.residual(self.knowledge.values)
        return start_VD + nn.functional.pad(text_ND, (0, 0, self.num_users, 0))

    def forward(self, adjacency_VV: Tensor | None = None) -> Tensor:
        """Return the vectors of all nodes, (V, D).

        Args:
            adjacency_VV: Another graph of the same nodes, as `normalised_adjacency` makes it; default: that of train.
        """
        adjacency_VV = self.adjacency_VV if adjacency_VV is None else adjacency_VV
        layer_VD = total_VD = self.layer_0()
        for _ in range(self.num_layers):
            layer_VD = adjacency_VV @ layer_VD
            total_VD = total_VD + layer_VD
        return total_VD / (self.num_layers + 1)


class LightGCN(Recommender):
    """Score by the dot product of propagated vectors, trained with BPR.

    A newer history is another graph: the layer-0 weights stay, and are propagated over it. So a user's later likes
    count without training again. An item without a like scores by its text, where `text_dim` is above 0; else 0.

    Args:
        config: Width, layers, penalty, epochs.
        seed: Of initialisation, shuffling and draws.

    Source: LightGCN, arXiv:2002.02126; BPR loss eq. 15.
    """

    def __init__(self, config: LightGCNConfig | None = None, seed: int = 0) -> None:
        self.config, self.seed = config or LightGCNConfig(), seed
        self.epochs: list[dict[str, float]] = []
        self._propagated: tuple[csr_array, NDArray[np.float32]] | None = None

    def _fit(self, train_UN: csr_array, side: Side, validate: Callable[[Self], float] | None) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self.module = self._module(train_UN, side)
        num_users, num_items = train_UN.shape
        users = torch.from_numpy(np.repeat(np.arange(num_users, dtype=np.int64), np.diff(train_UN.indptr)))
        items = torch.from_numpy(train_UN.indices.astype(np.int64))
        pairs = users * num_items + items  # ascending: the matrix is sorted by user, then item
        drawable = torch.unique(items)

        def loss_of(rows_B: Tensor, generator: torch.Generator) -> Tensor:
            user_B, liked_B = users[rows_B], items[rows_B]
            drawn_B = draw_unliked(user_B, pairs, drawable, num_items, generator)
            nodes = torch.cat([user_B, liked_B + num_users, drawn_B + num_users])
            user_BD, liked_BD, drawn_BD = self.module().index_select(0, nodes).chunk(3)
            penalty = self.module.layer_0().index_select(0, nodes).square().sum() / (2 * len(rows_B))
            return bpr((user_BD * liked_BD).sum(1), (user_BD * drawn_BD).sum(1)) + self.config.l2 * penalty

        def judge() -> float:
            self._propagated = None  # the weights have moved
            return validate(self) if validate is not None else 0.0

        self.epochs = train_epochs(
            self.module, len(users), loss_of, self.config, seed=self.seed, validate=judge if validate else None
        )
        self._propagated = None

    def _module(self, train_UN: csr_array, side: Side) -> Propagation:
        knowledge = knowledge_of(side, train_UN, self.config.text_dim)
        return Propagation(train_UN, knowledge, self.config.embedding_dim, self.config.num_layers)

    def _scores(self, user_rows: Rows, history_UN: csr_array) -> NDArray[np.floating]:
        if self._propagated is None or self._propagated[0] is not history_UN:
            with torch.no_grad():
                same = history_UN is self._train
                vectors_VD = self.module(None if same else normalised_adjacency(history_UN))
            self._propagated = (history_UN, vectors_VD.numpy())
        vectors_VD = self._propagated[1]
        return np.asarray(vectors_VD[user_rows] @ vectors_VD[history_UN.shape[0] :].T)

    def fold_in(self) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """Return what makes a user's vector without propagating again: own (U, D), past (N, D), items (N, D).

        With weights w of what a user liked, the user is own + Σ w·past / sqrt(Σ w), where an item's row of `past` is
        Σ of its layers but the last / sqrt(its degree), all over layers + 1. For the train graph that is the vector
        itself; for other likes the items stay where train put them, which `scores` with a newer history moves too.
        """
        module, num_users = self.module, self.module.num_users
        with torch.no_grad():
            layer_VD = module.layer_0()
            own_UD, items_ND = layer_VD[:num_users], module()[num_users:]
            sum_ND = torch.zeros_like(items_ND)
            for _ in range(module.num_layers):
                sum_ND += layer_VD[num_users:]
                layer_VD = module.adjacency_VV @ layer_VD
        assert self._train is not None
        degree_N = np.maximum(np.bincount(self._train.indices, minlength=module.num_items), 1)[:, None]
        parts = own_UD.numpy(), sum_ND.numpy() / np.sqrt(degree_N)
        own, past = (np.asarray(part / (module.num_layers + 1), np.float32) for part in parts)
        return own, past, np.asarray(items_ND.numpy(), np.float32)

    def save(self, folder_path: Path) -> None:
        """Write the weights, `recommender.safetensors`, into a folder."""
        save_weights(self.module, folder_path)

    def load(self, folder_path: Path, train_UN: csr_array, side: Side) -> Self:
        """Take weights that were fitted on this very data.

        Raises:
            ArtifactError: The file is missing, cut short, or of other data or another config.
        """
        self._train, self.module, self._propagated = train_UN, self._module(train_UN, side), None
        load_weights(self.module, folder_path)
        return self


def normalised_adjacency(likes_UN: csr_array) -> Tensor:
    """Return the symmetric graph of users and items, sparse CSR float32 (V, V), users first.

    An edge between a user of degree d and an item of degree e weighs 1 / sqrt(d · e); degrees are sums of the stored
    values, so that a like of weight one half is half a like.

    Args:
        likes_UN: Stored entries are the edges, their values the weights.

    Source: LightGCN, arXiv:2002.02126, eq. 8.
    """
    from scipy.sparse import block_array

    user_degree, item_degree = (np.maximum(likes_UN.sum(axis=axis), 1e-12) for axis in (1, 0))
    rows = np.repeat(np.arange(likes_UN.shape[0]), np.diff(likes_UN.indptr))
    edges_UN = likes_UN.copy()
    edges_UN.data = (likes_UN.data / np.sqrt(user_degree[rows] * item_degree[likes_UN.indices])).astype(np.float32)
    num_users, num_items = likes_UN.shape
    empty_UU, empty_NN = (csr_array((size, size), dtype=np.float32) for size in (num_users, num_items))
    graph_VV = csr_array(block_array([[empty_UU, edges_UN], [edges_UN.T, empty_NN]], format="csr"))
    indptr, indices, values = (
        torch.from_numpy(np.asarray(part)) for part in (graph_VV.indptr, graph_VV.indices, graph_VV.data)
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(indptr, indices, values, size=graph_VV.shape, check_invariants=True)
