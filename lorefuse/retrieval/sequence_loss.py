"""The loss of whole sequences: each like told from the ones before it.

Suffixes: ``B`` users of a batch, ``L`` sequence length, ``P`` likes of a batch that are to be told, ``K`` negatives of
a like, ``M`` items that a step embeds, ``N`` items, ``D`` embedding width.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor

from lorefuse.config.retrieval import SASRecConfig
from lorefuse.retrieval.losses import calibrated_bce, full_softmax, log_draw_chance, sampled_softmax
from lorefuse.retrieval.negatives import draw_unliked
from lorefuse.retrieval.past_likes import PastLikes
from lorefuse.retrieval.sequence_encoder import SequenceEncoder, by_length

ALL_ITEMS_UP_TO = 20_000
"""Catalogues up to this size are embedded as a whole in each training step; of larger ones, what the batch holds."""
LIKES_PER_SOFTMAX = 2048
"""Likes that are each other's negatives: more make the sampled softmax's scores grow with the square of a step."""

Place = Callable[[Tensor], Tensor]


class SequenceLoss:
    """The loss of some users' sequences, for a step of training.

    Candidates are the items with a like, and one of those without where an item without a like has nothing but the
    unseen id: it stands for them all, and learns to come last.

    Args:
        encoder: What is trained.
        config: Loss, negatives, length.
        train_UN: Likes.
        time: Of each stored entry.

    Attributes:
        last_likes: Where in `likes` each user's last one is; users without a like have none.
        drawable: Rows of the candidates, ascending.
        all_items: Whether the softmax goes over all candidates.
    """

    def __init__(
        self, encoder: SequenceEncoder, config: SASRecConfig, train_UN: csr_array, time: NDArray[np.float64]
    ) -> None:
        self.encoder, self.config, self.num_items = encoder, config, train_UN.shape[1]
        self.likes = PastLikes(train_UN, time, config.history_length, None)
        ends = train_UN.indptr[1:][np.diff(train_UN.indptr) > 0]
        self.last_likes = torch.from_numpy(ends.astype(np.int64) - 1)
        count_N = np.bincount(train_UN.indices, minlength=self.num_items).astype(np.float32)
        if config.item_mode != "fused":
            count_N[np.flatnonzero(count_N == 0)[:1]] = 1
        self.count_N = torch.from_numpy(count_N)
        self.drawable = torch.nonzero(self.count_N).squeeze(1)
        self.all_items = config.loss == "ce" and len(self.drawable) <= config.all_items_up_to
        self._column_N = torch.cumsum(self.count_N > 0, dim=0) - 1
        self._pairs = torch.sort(self.likes.user * self.num_items + self.likes.item).values

    def of(self, rows_B: Tensor, generator: torch.Generator) -> Tensor:
        """Return the mean loss of all likes of some users.

        Args:
            rows_B: Positions in `last_likes`.
            generator: Source of the negatives.
        """
        past_BL, target_BL = self.sequences(rows_B)
        groups = list(by_length((past_BL > 0).sum(dim=1), past_BL.shape[1]))
        parts = [(at, past_BL[at, -width:], target_BL[at, -width:]) for at, width in groups]
        target_P = torch.cat([target[target > 0] for _, _, target in parts]) - 1
        users = [self.likes.user[self.last_likes[rows_B[at]]][:, None].expand_as(target) for at, _, target in parts]
        user_P = torch.cat([user[target > 0] for user, (_, _, target) in zip(users, parts, strict=True)])
        drawn = self._draw(user_P, generator)
        items_MD, place = self._embedded(torch.cat([past_BL.flatten() - 1, target_P, drawn.flatten()]).clamp(min=0))
        states = [
            self.encoder.states(past, items_MD[place((past - 1).clamp(min=0))])[target > 0] for _, past, target in parts
        ]
        return self._loss(torch.cat(states), items_MD, place, target_P, drawn)

    def sequences(self, rows_B: Tensor) -> tuple[Tensor, Tensor]:
        """Return item rows + 1 of the likes before the last one and of those one further, (B, L) each.

        Oldest first, padded with 0 on the left; where there is room, the last padding of the first is followed by the
        first like in the second.
        """
        last_B = self.last_likes[rows_B]
        past_BL, weight_BL = self.likes.of(last_B)
        past_BL = torch.where(weight_BL > 0, past_BL + 1, 0).flip(1)
        return past_BL, torch.cat([past_BL[:, 1:], self.likes.item[last_B, None] + 1], dim=1)

    def _draw(self, user_P: Tensor, generator: torch.Generator) -> Tensor:
        """Return rows of negatives: none with the softmax over all items, (K,) for a sampled one, (P, K) for pairs."""
        number = self.config.num_negatives
        if self.all_items:
            return self.drawable[:0]
        if self.config.loss == "bce":
            users = user_P.repeat_interleave(number)
            return draw_unliked(users, self._pairs, self.drawable, self.num_items, generator).view(-1, number)
        return self.drawable[torch.randint(len(self.drawable), (number,), generator=generator)]

    def _embedded(self, rows: Tensor) -> tuple[Tensor, Place]:
        """Return item vectors, and the map from item rows to their places among them."""
        if self.all_items or self.num_items <= ALL_ITEMS_UP_TO:
            return self.encoder.items(), lambda rows: rows
        present = torch.unique(rows)
        return self.encoder.items(present), lambda rows: torch.searchsorted(present, rows)

    def _loss(self, state_PD: Tensor, items_MD: Tensor, place: Place, target_P: Tensor, drawn: Tensor) -> Tensor:
        if self.all_items:
            return full_softmax(state_PD, items_MD[self.drawable], self._column_N[target_P])
        if self.config.loss == "bce":
            positive_P = (state_PD * items_MD[place(target_P)]).sum(dim=1)
            negative_PK = torch.bmm(items_MD[place(drawn)], state_PD[:, :, None]).squeeze(2)
            return calibrated_bce(positive_P, negative_PK, len(self.drawable), self.config.calibration)
        return self._sampled(state_PD, items_MD, place, target_P, drawn)

    def _sampled(self, state_PD: Tensor, items_MD: Tensor, place: Place, target_P: Tensor, drawn: Tensor) -> Tensor:
        loss = torch.zeros(())
        for part in torch.split(torch.arange(len(target_P)), LIKES_PER_SOFTMAX):
            item_C = torch.cat([target_P[part], drawn])
            log_q_N = log_draw_chance(self.count_N, len(part), len(drawn))
            score_PC = state_PD[part] @ items_MD[place(item_C)].T
            loss = loss + sampled_softmax(score_PC, target_P[part], item_C, log_q_N[item_C]) * len(part)
        return loss / len(target_P)
