"""Numbers that a row's user and item have of each other in the frozen space of knowledge, for all rows of a training.

No weight takes part in them, so they are made once, block by block, and not in every step of every epoch: a batch then
carries a few numbers a row in place of vectors. A ranker makes the same numbers itself where it scores a user and an
item that come as vectors, in serving.

Suffixes: ``B`` rows, ``V`` interest facets, ``E`` knowledge dim, ``L`` history length, ``s`` states, ``K`` rows of
each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lorefuse.models.history_match import NUM_MATCHES, match_scalars
from lorefuse.training_set.arrays import TrainingSet
from lorefuse.training_set.lazy_states import LazyStates
from lorefuse.training_set.spec import InterestFacet

VALUES_AT_A_TIME = 1 << 22
"""Numbers of a block of vectors: 16 MB."""
Rows = NDArray[np.int64]


def interest_scalars(training_set: TrainingSet, rows: Rows) -> Tensor:
    """Return the dot products of users' interest with items' unit vectors, not yet standardised: float32 (B, V).

    Args:
        training_set: An arm's rows.
        rows: Positions of the B rows.
    """
    interest = training_set.user_interest
    if not isinstance(interest, LazyStates):
        return _scalars_of_array(training_set, interest, rows, training_set.spec.interest)
    made = interest.kept.get("scalars")
    if made is None or made[0] is not training_set.item_row:  # asked for of several parts of the rows
        made = interest.kept["scalars"] = (training_set.item_row, _scalars_of_states(training_set, interest))
    every: Tensor = made[1]
    return every.index_select(0, torch.from_numpy(rows))


def history_matches(training_set: TrainingSet, names: Sequence[str], rows: Rows) -> Tensor:
    """Return the match scalars (`history_match`) of rows in each of some spaces of knowledge, side by side: (B, 5 · n).

    Args:
        training_set: An arm's rows, with the history that the ranker reads.
        names: Item tensors.
        rows: Positions of the B rows.
    """
    result = torch.zeros(len(rows), NUM_MATCHES * len(names))
    for number, name in enumerate(names):
        table_NE = torch.from_numpy(training_set.item_table(name))
        length_N = _lengths(table_NE)
        block = slice(number * NUM_MATCHES, (number + 1) * NUM_MATCHES)
        step = VALUES_AT_A_TIME // (table_NE.shape[1] * max(1, training_set.spec.history_length))
        for states_s, at_sK, given_sK in _by_state(training_set.state_row[rows], max(1, step)):
            past_sL = torch.from_numpy(training_set.user_history[states_s]).long()
            items_sK = torch.from_numpy(training_set.item_row[rows[at_sK]]).long()
            similarity_sKL = _cosines(table_NE, length_N, items_sK, past_sL)
            present_sL = (past_sL > 0).to(torch.float32)
            found = match_scalars(similarity_sKL, present_sL.unsqueeze(1).expand_as(similarity_sKL))
            result[torch.from_numpy(at_sK[given_sK]), block] = found[torch.from_numpy(given_sK)]
    return result


def _scalars_of_array(
    training_set: TrainingSet, states: NDArray[np.float32], rows: Rows, facets: Sequence[InterestFacet]
) -> Tensor:
    """Return the scalars of facets whose states stand side by side in an array (S, ·), read in order."""
    width, result = sum(facet.dim for facet in facets), torch.empty(len(rows), len(facets))
    if not facets:
        return result
    tables = {f.against: torch.from_numpy(training_set.item_table(f.against)) for f in facets}
    lengths = {name: _lengths(table) for name, table in tables.items()}
    order = np.argsort(training_set.state_row[rows], kind="stable")
    for places in np.array_split(order, len(order) * max(1, width) // VALUES_AT_A_TIME + 1):
        state_BV = torch.from_numpy(states[training_set.state_row[rows[places]]])
        items_B = torch.from_numpy(training_set.item_row[rows[places]]).long()
        blocks = torch.split(state_BV, [facet.dim for facet in facets], dim=1)
        pairs = zip(facets, blocks, strict=True)
        found = [_products(block, tables[f.against], lengths[f.against], items_B) for f, block in pairs]
        result[torch.from_numpy(places)] = torch.stack(found, dim=1)
    return result


def _scalars_of_states(training_set: TrainingSet, interest: LazyStates) -> Tensor:
    """Return the scalars of every row, (R, V), without the states."""
    facets, every = training_set.spec.interest, np.arange(training_set.num_rows)
    made = [
        torch.from_numpy(interest.products(number, training_set.state_row, training_set.item_row))
        for number in range(len(interest.vectors))
    ]
    more = _scalars_of_array(training_set, interest.more, every, facets[2 * len(made) :])
    return torch.cat([*made, more], dim=1)


def _by_state(state_B: NDArray[np.integer], step: int) -> Iterator[tuple[Rows, Rows, NDArray[np.bool_]]]:
    """Yield blocks of states with the places of their rows: (s,), (s, K) and which of these are rows, (s, K).

    States with as many rows as each other stand together, so that few places are empty.
    """
    order = np.argsort(state_B, kind="stable")
    states, first, count = np.unique(state_B[order], return_index=True, return_counts=True)
    by_count = np.argsort(count, kind="stable")
    start = 0
    while start < len(states):
        most = int(count[by_count[min(start + step, len(states)) - 1]])
        # So many rows of each as history items and more are as large as the block of pasts itself.
        chosen = by_count[start : start + step]
        start += len(chosen)
        for skipped in range(0, most, _ROWS_AT_A_TIME):
            numbers = np.arange(skipped, min(skipped + _ROWS_AT_A_TIME, most))
            given_sK = numbers < count[chosen][:, None]
            at_sK = order[np.where(given_sK, first[chosen][:, None] + numbers, first[chosen][:, None])]
            yield states[chosen].astype(np.int64), at_sK, given_sK


_ROWS_AT_A_TIME = 32
"""Rows of one state that are compared at once."""


def _cosines(table_NE: Tensor, length_N: Tensor, items_sK: Tensor, past_sL: Tensor) -> Tensor:
    """Return the cosines of items with past items (row numbers + 1, 0 for padding, whose cosines say nothing)."""
    known_sL = (past_sL - 1).clamp(min=0)
    past_sLE = table_NE.index_select(0, known_sL.flatten()).view(*known_sL.shape, -1)
    item_sKE = table_NE.index_select(0, items_sK.flatten()).view(*items_sK.shape, -1)
    product_sKL = torch.bmm(item_sKE, past_sLE.transpose(1, 2))
    return product_sKL / length_N[items_sK].unsqueeze(2) / length_N[known_sL].unsqueeze(1)


def _products(side_BE: Tensor, table_NE: Tensor, length_N: Tensor, items_B: Tensor) -> Tensor:
    products_B: Tensor = (side_BE * table_NE.index_select(0, items_B)).sum(1) / length_N[items_B]
    return products_B


def _lengths(table_NE: Tensor) -> Tensor:
    length_N: Tensor = table_NE.norm(dim=1).clamp(min=1e-12)
    return length_N
