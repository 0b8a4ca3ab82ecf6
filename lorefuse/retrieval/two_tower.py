"""Two towers: a user's vector from fields and history, an item's from its id, fields, text and graph.

Suffixes: ``B`` likes of a batch, ``C`` candidates, ``U`` users, ``N`` items, ``L`` history length, ``D``
embedding width.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor, nn

from lorefuse.config.retrieval import TwoTowerConfig
from lorefuse.core.errors import UsageError
from lorefuse.models.layers import unit_length
from lorefuse.retrieval.loop import train_epochs
from lorefuse.retrieval.losses import log_draw_chance, sampled_softmax
from lorefuse.retrieval.past_likes import PastLikes
from lorefuse.retrieval.recommender import Recommender, Rows, Side
from lorefuse.retrieval.tables import FieldSum, Knowledge, knowledge_of, liked_only, load_weights, save_weights

ALL_ITEMS_UP_TO = 20_000
"""Catalogues up to this size are embedded as a whole in each training step; of larger ones, what the batch holds."""


class Towers(nn.Module):
    """The trained part of `TwoTower`.

    Item: v = unit(Σ fields + W_t·text + W_g·graph); user: u = unit(Σ fields + H·mean of history's item vectors before
    `unit`). An unseen id takes index 0, which id-dropout has trained to stand for any item: what is left is its text.

    Args:
        user_fields: (U, Fu), the id first; 0 is unseen.
        item_fields: (N, Fi), the id first; 0 is unseen.
        knowledge: Text and graph of the items.
        embedding_dim: D.
        id_dropout: Share of ids replaced by index 0 in a training step.
    """

    def __init__(
        self, user_fields: Tensor, item_fields: Tensor, knowledge: Knowledge, embedding_dim: int, id_dropout: float
    ) -> None:
        super().__init__()
        self.user = FieldSum(user_fields, embedding_dim, id_dropout, by_rows=True)
        self.item = FieldSum(item_fields, embedding_dim, id_dropout, by_rows=True)
        self.knowledge = knowledge
        self.residual = nn.Linear(knowledge.width, embedding_dim, bias=False) if knowledge.width else None
        self.history = nn.Linear(embedding_dim, embedding_dim, bias=False)
        nn.init.eye_(self.history.weight)

    def items(self, rows: Tensor | None = None) -> Tensor:
        """Return the vectors of some items, by default of the whole catalogue, not yet of unit length, (N, D)."""
        vectors_ND: Tensor = self.item(rows)
        if self.residual is None:
            return vectors_ND
        values = self.knowledge.values
        known_ND: Tensor = self.residual(values if rows is None else values.index_select(0, rows))
        return vectors_ND + known_ND

    def users(self, user_rows_B: Tensor, mean_BD: Tensor) -> Tensor:
        """Return user vectors of unit length, (B, D).

        Args:
            user_rows_B: Rows of the user table.
            mean_BD: Weighted mean of the history's `items`; zeros where there is none.
        """
        return unit_length(self.user(user_rows_B) + self.history(mean_BD))


class TwoTower(Recommender):
    """Retrieval by the cosine of a user's and an item's vector, trained with a sampled softmax.

    In training a like is predicted from the likes before it, never from itself or later ones. Negatives are the other
    targets of the batch and evenly drawn items, corrected for how often they are drawn.

    Args:
        config: Widths, temperature, dropout, epochs.
        seed: Of initialisation, shuffling, draws and dropout.

    Source: Yi et al., RecSys 2019, sections 3 and 4; DropoutNet (NIPS 2017) for the dropped ids.
    """

    def __init__(self, config: TwoTowerConfig | None = None, seed: int = 0) -> None:
        self.config, self.seed = config or TwoTowerConfig(), seed
        self.epochs: list[dict[str, float]] = []

    def _fit(self, train_UN: csr_array, side: Side, validate: Callable[[Self], float] | None) -> None:
        if side.time is None:
            raise UsageError("Two towers read likes in order of time.", expected="Side.time", got="none")
        config = self.config
        likes = PastLikes(train_UN, side.time, config.history_length, config.history_half_life)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self.towers = self._towers(train_UN, side)
        count_N = torch.from_numpy(np.bincount(train_UN.indices, minlength=train_UN.shape[1])).to(torch.float32)
        drawable = torch.nonzero(count_N).squeeze(1)
        log_q_N = log_draw_chance(count_N, min(config.batch_size, len(likes.user)), config.num_uniform_negatives)

        def loss_of(rows_B: Tensor, generator: torch.Generator) -> Tensor:
            towers, target_B = self.towers, likes.item[rows_B]
            past_BL, weight_BL = likes.of(rows_B)
            drawn = torch.randint(len(drawable), (config.num_uniform_negatives,), generator=generator)
            item_C = torch.cat([target_B, drawable[drawn]])
            items_ND, at_C, at_BL = _embedded(towers, item_C, past_BL)
            mean_BD = nn.functional.embedding_bag(at_BL, items_ND, per_sample_weights=weight_BL, mode="sum")
            users_BD = towers.users(likes.user[rows_B], mean_BD) / config.temperature
            score_BC = users_BD @ unit_length(items_ND.index_select(0, at_C)).T
            return sampled_softmax(score_BC, target_B, item_C, log_q_N[item_C])

        self.epochs = train_epochs(
            self.towers,
            len(likes.user),
            loss_of,
            config,
            seed=self.seed,
            weight_decay=config.weight_decay,
            validate=None if validate is None else lambda: validate(self),
        )

    def _towers(self, train_UN: csr_array, side: Side) -> Towers:
        user_fields, item_fields = liked_only(train_UN, side)
        knowledge = knowledge_of(side, train_UN, self.config.text_dim)
        return Towers(user_fields, item_fields, knowledge, self.config.embedding_dim, self.config.id_dropout)

    def _scores(self, user_rows: Rows, history_UN: csr_array) -> NDArray[np.floating]:
        with torch.no_grad():
            items_ND = self.towers.items()
            return np.asarray((self._users(user_rows, history_UN, items_ND) @ unit_length(items_ND).T).numpy())

    def _users(self, user_rows: Rows, history_UN: csr_array, items_ND: Tensor) -> Tensor:
        history_BN = history_UN[user_rows]
        total_B1 = np.maximum(history_BN.sum(axis=1)[:, None], 1e-12)
        mean_BD = torch.from_numpy(np.asarray(history_BN @ items_ND.numpy() / total_B1, dtype=np.float32))
        return self.towers.users(torch.from_numpy(np.asarray(user_rows, dtype=np.int64)), mean_BD)

    def item_vectors(self) -> NDArray[np.float32]:
        """Return the vectors of the whole catalogue, not yet of unit length, (N, D)."""
        with torch.no_grad():
            return np.asarray(self.towers.items().numpy(), dtype=np.float32)

    def user_vectors(self, user_rows: Rows, history_UN: csr_array) -> NDArray[np.float32]:
        """Return vectors of unit length of some users, (B, D), with what each of all users has liked by now."""
        with torch.no_grad():
            return np.asarray(self._users(user_rows, history_UN, self.towers.items()).numpy(), dtype=np.float32)

    def save(self, folder_path: Path) -> None:
        """Write the weights, `recommender.safetensors`, into a folder."""
        save_weights(self.towers, folder_path)

    def load(self, folder_path: Path, train_UN: csr_array, side: Side) -> Self:
        """Take weights that were fitted on this very data.

        Raises:
            ArtifactError: The file is missing, cut short, or of other data or another config.
        """
        self._train, self.towers = train_UN, self._towers(train_UN, side)
        load_weights(self.towers, folder_path)
        return self


def _embedded(towers: Towers, item_C: Tensor, past_BL: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return item vectors, and where among them the candidates and the past items stand."""
    if len(towers.item.index) <= ALL_ITEMS_UP_TO:
        return towers.items(), item_C, past_BL
    present, places = torch.unique(torch.cat([item_C, past_BL.flatten()]), return_inverse=True)
    return towers.items(present), places[: len(item_C)], places[len(item_C) :].view_as(past_BL)
