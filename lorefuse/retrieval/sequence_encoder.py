"""What `SASRec` trains: vectors of the items, and a transformer that turns a sequence of them into a user's vector.

Suffixes: ``B`` users of a batch, ``L`` sequence length, ``N`` items, ``D`` embedding width, ``H`` heads, ``W`` width
of a head.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from lorefuse.retrieval.tables import FieldSum, Knowledge

WIDTHS = (4, 8, 16, 32, 64, 128, 256, 512)
"""Sequences below these lengths go through the transformer together: most are short, and padding costs as much."""

ID_START = 0.1
"""Length at which ids start beside knowledge: ids of full length drown it, and twice as many epochs find less."""


class SequenceItems(nn.Module):
    """The vector of an item: Σ fields + W·knowledge; the same one is read in a history and scored as a candidate.

    An unseen id takes index 0, which id-dropout has trained to stand for any item: what is left is its knowledge.

    Args:
        fields: int64 (N, F), the id first; 0 is unseen.
        knowledge: Text and graph of the items; width 0: fields alone.
        embedding_dim: D.
        id_dropout: Share of ids replaced by index 0 in a training step.
    """

    def __init__(self, fields: Tensor, knowledge: Knowledge, embedding_dim: int, id_dropout: float) -> None:
        super().__init__()
        self.fields = FieldSum(fields, embedding_dim, id_dropout, by_rows=True)
        self.knowledge = knowledge
        self.residual = nn.Linear(knowledge.width, embedding_dim, bias=False) if knowledge.width else None
        if self.residual is not None and not self.fields.sparse:  # sparse tables start near zero by themselves
            self.fields.table.detach().mul_(ID_START)

    def forward(self, rows: Tensor | None = None) -> Tensor:
        """Return the vectors of some items, by default of the whole catalogue, (N, D)."""
        vectors_ND: Tensor = self.fields(rows)
        if self.residual is None:
            return vectors_ND
        values = self.knowledge.values
        known_ND: Tensor = self.residual(values if rows is None else values.index_select(0, rows))
        return vectors_ND + known_ND

    def start_from(self, values_NE: Tensor) -> None:
        """Let the ids of seen items start at a random rotation of some vectors; items whose vector is 0 stay as drawn.

        Args:
            values_NE: Of length ≈ 1, so that the start is as long as a drawn one.
        """
        width = values_NE.shape[1]
        turn_ED = torch.empty(width, self.fields.table.shape[1])
        nn.init.orthogonal_(turn_ED, gain=max(1.0, width / turn_ED.shape[1]) ** 0.5)
        ids_N = self.fields.index[:, 0]
        told_N = (ids_N > 0) & values_NE.any(dim=1)
        length = self.fields.table.detach().norm(dim=1).mean()
        with torch.no_grad():
            self.fields.table[ids_N[told_N]] = values_NE[told_N] @ turn_ED * length


class Block(nn.Module):
    """x + attention(norm(x)), then x + feed-forward(norm(x)), each with dropout.

    Source: SASRec, arXiv:1808.09781, section III.B, eqs. 2 to 5 and the residuals after them.
    """

    def __init__(self, embedding_dim: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm_attention, self.norm_feed = nn.LayerNorm(embedding_dim), nn.LayerNorm(embedding_dim)
        self.query_key_value = nn.Linear(embedding_dim, 3 * embedding_dim)
        self.attended = nn.Linear(embedding_dim, embedding_dim)
        self.feed = nn.Sequential(
            nn.Linear(embedding_dim, embedding_dim), nn.ReLU(), nn.Linear(embedding_dim, embedding_dim)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, state_BLD: Tensor, allowed_BLL: Tensor) -> Tensor:
        """Return the next states, (B, L, D).

        Args:
            state_BLD: States.
            allowed_BLL: Whether a position may look at another; each may look at itself.
        """
        length, embedding_dim = state_BLD.shape[1:]
        both = self.query_key_value(self.norm_attention(state_BLD))
        split = both.view(-1, length, 3 * self.num_heads, embedding_dim // self.num_heads).transpose(1, 2)
        query_BHLW, key_BHLW, value_BHLW = split.chunk(3, dim=1)
        score_BHLL = query_BHLW @ key_BHLW.transpose(2, 3) * (embedding_dim // self.num_heads) ** -0.5
        share_BHLL = score_BHLL.masked_fill(~allowed_BLL[:, None], float("-inf")).softmax(dim=3)
        seen_BLD = (self.dropout(share_BHLL) @ value_BHLW).transpose(1, 2).reshape(-1, length, embedding_dim)
        state_BLD = state_BLD + self.dropout(self.attended(seen_BLD))
        fed_BLD: Tensor = self.dropout(self.feed(self.norm_feed(state_BLD)))
        return state_BLD + fed_BLD


class SequenceEncoder(nn.Module):
    """Rows of past items → a user's vector, to be multiplied with `SequenceItems`.

    Positions are counted from the latest item, so padding on the left changes nothing, and any length up to the
    longest fits. A sequence without an item has a vector too: it was trained to tell first likes.

    Args:
        items: Vectors of the items.
        history_length: L, the longest sequence.
        num_layers: Blocks.
        num_heads: Of each attention; a divisor of the items' width.
        dropout: Share of the activations that are dropped in training.

    Source: SASRec, arXiv:1808.09781, section III.
    """

    def __init__(
        self, items: SequenceItems, *, history_length: int, num_layers: int, num_heads: int, dropout: float
    ) -> None:
        super().__init__()
        self.items = items
        self.embedding_dim = items.fields.table.shape[1]
        self.position = nn.Parameter(torch.empty(history_length, self.embedding_dim))
        nn.init.normal_(self.position, std=0.02)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(self.embedding_dim, num_heads, dropout) for _ in range(num_layers))
        self.norm = nn.LayerNorm(self.embedding_dim)

    def forward(self, past_BL: Tensor) -> Tensor:
        """Return user vectors, (B, D).

        Args:
            past_BL: Item rows + 1, oldest first, padded with 0 on the left.
        """
        rows = (past_BL - 1).clamp(min=0)
        vectors_BLD = self.items(rows.flatten()).view(-1, past_BL.shape[1], self.embedding_dim)
        return self.states(past_BL, vectors_BLD)[:, -1]

    def states(self, past_BL: Tensor, vectors_BLD: Tensor) -> Tensor:
        """Return what is known after each position, (B, L, D): of positions before it, never of later ones.

        Args:
            past_BL: As for `forward`.
            vectors_BLD: Vectors of those items; anything where there is padding.
        """
        length = past_BL.shape[1]
        real_BL = past_BL > 0
        state_BLD = vectors_BLD * self.embedding_dim**0.5 + self.position[len(self.position) - length :]
        state_BLD = self.dropout(state_BLD * real_BL[:, :, None])
        itself_LL = torch.eye(length, dtype=torch.bool, device=past_BL.device)
        earlier_LL = torch.ones_like(itself_LL).tril()
        allowed_BLL = itself_LL | (earlier_LL & real_BL[:, None, :])
        for block in self.blocks:
            state_BLD = block(state_BLD, allowed_BLL)
        last: Tensor = self.norm(state_BLD)
        return last


def by_length(length_B: Tensor, longest: int) -> Iterator[tuple[Tensor, int]]:
    """Yield positions of sequences of similar length, and a width that holds them with a place to spare.

    Args:
        length_B: Items of each sequence.
        longest: The last width, whose sequences may fill it.
    """
    below = 0
    for width in (*(width for width in WIDTHS if width < longest), longest):
        up_to = longest if width == longest else width - 1
        at = torch.nonzero((length_B >= below) & (length_B <= up_to)).squeeze(1)
        below = up_to + 1
        if len(at):
            yield at, width
