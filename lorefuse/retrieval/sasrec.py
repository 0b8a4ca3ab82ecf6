"""SASRec: what comes next after a user's likes, in their order, by a causal transformer.

Suffixes: ``B`` users of a batch, ``L`` sequence length, ``U`` users, ``N`` items, ``D`` embedding width.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array

from lorefuse.config.retrieval import SASRecConfig
from lorefuse.core.errors import UsageError
from lorefuse.retrieval.loop import train_epochs
from lorefuse.retrieval.recommender import Recommender, Rows, Side
from lorefuse.retrieval.sequence_encoder import SequenceEncoder, SequenceItems, by_length
from lorefuse.retrieval.sequence_loss import SequenceLoss
from lorefuse.retrieval.tables import knowledge_of, liked_only, load_weights, save_weights


class SASRec(Recommender):
    """Retrieval by the dot product of a user's vector, read from the latest likes in their order, and an item's.

    In training each like is predicted from the likes before it, at all positions of a sequence at once. Candidates are
    items with a like alone: a new item is not taught to be a wrong answer. With ``fused`` its knowledge gives it a
    place; in the other modes items without a like share one vector, which is taught to come last.

    Args:
        config: Widths, layers, dropout, loss, epochs.
        seed: Of initialisation, shuffling, draws and dropout.

    Source: SASRec, arXiv:1808.09781. That cross-entropy over all items beats its pairs: RecBole, issue 1667;
    Klenitskiy & Vasilev, arXiv:2309.07602.
    """

    def __init__(self, config: SASRecConfig | None = None, seed: int = 0) -> None:
        self.config, self.seed = config or SASRecConfig(), seed
        self.epochs: list[dict[str, float]] = []

    def _fit(self, train_UN: csr_array, side: Side, validate: Callable[[Self], float] | None) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self._prepare(train_UN, side)
        loss = SequenceLoss(self.encoder, self.config, train_UN, self._in_order.data)
        self.epochs = train_epochs(
            self.encoder,
            len(loss.last_likes),
            loss.of,
            self.config,
            seed=self.seed,
            weight_decay=self.config.weight_decay,
            validate=None if validate is None else lambda: validate(self),
        )

    def _prepare(self, train_UN: csr_array, side: Side) -> None:
        """Make the encoder and what else the data alone decides."""
        if side.time is None:
            raise UsageError("SASRec reads likes in order of time.", expected="Side.time", got="none")
        self._in_order = csr_array((side.time, train_UN.indices, train_UN.indptr), shape=train_UN.shape)
        config, fused = self.config, self.config.item_mode == "fused"
        fields = liked_only(train_UN, side)[1]
        text_dim = 0 if config.item_mode == "ids" else config.text_dim
        knowledge, none = knowledge_of(side, train_UN, text_dim), knowledge_of(Side(), train_UN, 0)
        items = SequenceItems(
            fields if fused else fields[:, :1],
            knowledge if fused else none,
            config.embedding_dim,
            config.id_dropout if fused else 0.0,
        )
        if config.item_mode == "text_init" and knowledge.width:
            items.start_from(knowledge.values)
        self.encoder = SequenceEncoder(
            items,
            history_length=config.history_length,
            num_layers=config.num_layers,
            num_heads=config.num_heads,
            dropout=config.dropout,
        )

    def _scores(self, user_rows: Rows, history_UN: csr_array) -> NDArray[np.floating]:
        history_UN = self._in_order if history_UN is self._train else history_UN
        past_BL = latest(history_UN[user_rows], self.config.history_length)
        return self.user_vectors(past_BL) @ self.item_vectors().T

    def item_vectors(self) -> NDArray[np.float32]:
        """Return the vectors of the whole catalogue, (N, D)."""
        with torch.no_grad():
            return np.asarray(self.encoder.items().numpy(), dtype=np.float32)

    def user_vectors(self, past_BL: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the vectors of users, (B, D), whose product with an item's vector is its score.

        Args:
            past_BL: Item rows + 1, oldest first, padded with 0 on the left; no longer than the configured history.
        """
        past = torch.from_numpy(np.asarray(past_BL, dtype=np.int64))
        users_BD = torch.empty(len(past), self.config.embedding_dim)
        with torch.no_grad():
            for at, width in by_length((past > 0).sum(dim=1), past.shape[1]):
                users_BD[at] = self.encoder(past[at, past.shape[1] - width :])
        return np.asarray(users_BD.numpy(), dtype=np.float32)

    def save(self, folder_path: Path) -> None:
        """Write the weights, `recommender.safetensors`, into a folder."""
        save_weights(self.encoder, folder_path)

    def load(self, folder_path: Path, train_UN: csr_array, side: Side) -> Self:
        """Take weights that were fitted on this very data.

        Raises:
            ArtifactError: The file is missing, cut short, or of other data or another config.
        """
        self._train = train_UN
        self._prepare(train_UN, side)
        load_weights(self.encoder, folder_path)
        return self


def latest(history_BN: csr_array, length: int) -> NDArray[np.int64]:
    """Return the item rows + 1 of the largest weights of each row, ascending, padded with 0 on the left, (B, L).

    Args:
        history_BN: Weights that grow with time; of equal ones the larger item row counts as the later one.
        length: L.
    """
    num_users = history_BN.shape[0]
    users = np.repeat(np.arange(num_users), np.diff(history_BN.indptr))
    order = np.lexsort((history_BN.indices, history_BN.data, users))
    place = length - (history_BN.indptr[users + 1] - np.arange(len(users)))
    past_BL = np.zeros((num_users, length), dtype=np.int64)
    kept = place >= 0
    past_BL[users[kept], place[kept]] = history_BN.indices[order][kept] + 1
    return past_BL
