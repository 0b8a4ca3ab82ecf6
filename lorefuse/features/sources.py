"""The Parquet source of each feature view, written part by part: frames of all rows may not fit into memory.

Every user and item has a snapshot at the epoch (nothing known yet) and one after each moment at which a train row of
theirs happened. A snapshot that includes the rows of moment t is stamped t + 1 µs: a join for a label of moment t,
which takes snapshots at or before t, then sees rows strictly before t and no others.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from lorefuse.config import PipelineConfig
from lorefuse.core.schema import EVENT_TIMESTAMP, ITEM_ID, TIMESTAMP_UNIT, USER_ID, View, block_column, item_block
from lorefuse.data.dataset import Dataset
from lorefuse.features.aggregates import ITEM_NUMERIC, USER_NUMERIC, interest_features, item_features, user_features
from lorefuse.features.causal import PART_ROWS, CausalPart
from lorefuse.features.prior import ItemPrior
from lorefuse.features.profile import profile_snapshots
from lorefuse.features.rows import FACETS, Interactions
from lorefuse.training_set.vectors import ItemVectors

EPOCH_US = 0
_TYPES = {
    "float": pa.float32(),
    "string": pa.string(),
    "floats": pa.list_(pa.float32()),
    "strings": pa.list_(pa.string()),
}


@dataclass(frozen=True)
class Source:
    """What a feature view reads: its entity and columns, each with a type of `_TYPES`, and its rows in parts."""

    entity: str
    fields: dict[str, str]
    frames: Iterable[pd.DataFrame]


def user_sources(
    dataset: Dataset,
    history: Interactions,
    vectors: ItemVectors,
    config: PipelineConfig,
    known: NDArray[np.bool_],
) -> Iterator[tuple[str, Source]]:
    """Yield the sources of the users' views.

    Args:
        dataset: Users and items.
        history: The rows that features are learned from.
        vectors: What interests are made of.
        config: Shrinkage and length of histories.
        known: Rows that a served user's past holds, (R,): validation rows too, as where lists are judged.
    """
    length = config.features.history_length
    yield View.USER_HISTORY, Source("user", _HISTORY_FIELDS, _history_frames(dataset, history, known, length))
    attributes = dataset.users()[[USER_ID, *dataset.roles.user_categories]]
    yield View.USER_ATTRIBUTES, _static("user", attributes, dict.fromkeys(dataset.roles.user_categories, "string"))
    user_ids, mean = dataset.users()[USER_ID].to_numpy(), history.overall_mean
    stats = (
        moments.frame(USER_ID, dict(zip(USER_NUMERIC, user_features(moments.states[0], mean).T, strict=True)))
        for moments in _moments([history.user_parts()], history, history.user_row, user_ids)
    )
    yield View.USER_STATS, Source("user", dict.fromkeys(USER_NUMERIC, "float"), stats)
    interest = _interest_source(history, vectors, user_ids, config.features.interest_shrinkage)
    if interest.fields:
        yield View.USER_INTEREST, interest


def item_sources(
    dataset: Dataset, history: Interactions, vectors: ItemVectors, prior: ItemPrior
) -> Iterator[tuple[str, Source]]:
    """Yield the sources of the items' views, one for each knowledge block among them."""
    items, roles = dataset.items(), dataset.roles
    fields = dict.fromkeys((roles.item_title, *roles.item_categories), "string")
    fields |= dict.fromkeys(roles.item_multi_categories, "strings")
    fields.pop(ITEM_ID, None)
    yield View.ITEM_ATTRIBUTES, _static("item", items[[ITEM_ID, *fields]], fields)

    def stats() -> Iterator[pd.DataFrame]:
        ids = items[ITEM_ID].to_numpy()
        for moments in _moments([history.item_parts()], history, history.item_row, ids):
            numeric = item_features(moments.states[0], history.overall_mean)
            columns = [*numeric.T, prior.values[moments.entity_row]]
            yield moments.frame(ITEM_ID, dict(zip(ITEM_NUMERIC, columns, strict=True)))

    yield View.ITEM_STATS, Source("item", dict.fromkeys(ITEM_NUMERIC, "float"), stats())
    for name, matrix in vectors.knowledge.items():
        column = block_column(name)
        frame = pd.DataFrame({ITEM_ID: items[ITEM_ID], column: list(matrix)})
        yield item_block(name), _static("item", frame, {column: "floats"})


def write_sources(sources: Iterable[tuple[str, Source]], folder_path: Path) -> tuple[dict[str, Any], dict[str, int]]:
    """Write ``<view>.parquet`` of each source that has columns; return entity and fields, and snapshots, by view."""
    views, num_snapshots = {}, {}
    for view, source in sources:
        if source.fields:
            num_snapshots[str(view)] = _write_source(source, folder_path / f"{view}.parquet")
            views[str(view)] = {"entity": source.entity, "fields": source.fields}
    return views, num_snapshots


def _write_source(source: Source, path: Path) -> int:
    key = USER_ID if source.entity == "user" else ITEM_ID
    schema = pa.schema(
        [(key, pa.string()), (EVENT_TIMESTAMP, pa.timestamp(TIMESTAMP_UNIT, "UTC"))]
        + [(name, _TYPES[kind]) for name, kind in source.fields.items()]
    )
    writer, num_rows = None, 0
    try:
        for frame in source.frames:
            table = pa.Table.from_pandas(frame[schema.names], schema=schema, preserve_index=False)
            writer = writer or pq.ParquetWriter(path, table.schema)
            writer.write_table(table)
            num_rows += len(frame)
            del frame, table  # gone before the next part is made
    finally:
        if writer is not None:
            writer.close()
    return num_rows


@dataclass(frozen=True)
class _Moments:
    """Snapshots of one kind of entity, a part of them: states of each stream as of the moments."""

    entity_row: NDArray[np.int32]
    entity_id: NDArray[Any]
    stamp_us: NDArray[np.int64]
    states: list[NDArray[np.float64]]

    def frame(self, key: str, columns: dict[str, Any]) -> pd.DataFrame:
        return pd.DataFrame({key: self.entity_id, EVENT_TIMESTAMP: _times(self.stamp_us)} | columns)


def _moments(
    streams: list[Iterator[CausalPart]],
    history: Interactions,
    entity_row: NDArray[np.int32],
    entity_ids: NDArray[Any],
) -> Iterator[_Moments]:
    """Yield the epoch for every entity, where the sums are zeros, then one snapshot after each moment with a train row.

    The epoch stands before the snapshots of the first part.
    """
    epoch = np.arange(len(entity_ids), dtype=np.int32)
    for parts in zip(*streams, strict=True):
        found = [part.snapshots(history.is_train) for part in parts]
        rows = found[0][0]
        entities = np.concatenate([epoch, entity_row[rows]])
        stamps = np.concatenate([np.full(len(epoch), EPOCH_US), history.timestamp_us[rows] + 1])
        states = [np.concatenate([np.zeros((len(epoch), after.shape[1])), after]) for _, after in found]
        yield _Moments(entities, entity_ids[entities], stamps, states)
        epoch = epoch[:0]


def _interest_source(history: Interactions, vectors: ItemVectors, user_ids: NDArray[Any], shrinkage: float) -> Source:
    """Both sides of the user's interest in each knowledge block, and the texts about the user."""
    matrices = vectors.knowledge
    profiles = profile_snapshots(history, vectors, shrinkage)
    names = [f"{facet}_{name}" for name in matrices for facet in FACETS]

    def frames() -> Iterator[pd.DataFrame]:
        width = max([matrix.shape[1] for matrix in matrices.values()], default=0)
        # Texts about users without vectors of items: the streams of numbers mark the moments.
        streams = [history.interest_parts(matrix, width) for matrix in matrices.values()] or [history.user_parts()]
        start = 0
        for moments in _moments(streams, history, history.user_row, user_ids):
            states = moments.states if matrices else []
            sides = [interest_features(state, history.overall_value, shrinkage) for state in states]
            columns: dict[str, Any] = dict(zip(names, [list(side) for pair in sides for side in pair], strict=True))
            num_epoch = len(user_ids) if start == 0 else 0
            end = start + len(moments.stamp_us) - num_epoch
            for name, after in profiles.items():
                at_the_epoch = np.zeros((num_epoch, after.shape[1]), dtype=np.float32)
                columns[name] = list(np.concatenate([at_the_epoch, after[start:end]]))
            start = end
            yield moments.frame(USER_ID, columns)

    return Source("user", dict.fromkeys([*names, *profiles], "floats"), frames())


def _static(entity: str, frame: pd.DataFrame, fields: dict[str, str]) -> Source:
    """A source whose only snapshot is at the epoch, so that every label may see it."""
    return Source(entity, fields, [frame.assign(**{EVENT_TIMESTAMP: _times(np.full(len(frame), EPOCH_US))})])


_HISTORY_FIELDS = {"recent_liked": "strings", "seen": "strings"}


def _history_frames(
    dataset: Dataset, history: Interactions, known: NDArray[np.bool_], length: int
) -> Iterator[pd.DataFrame]:
    """Recent liked items (newest last) and all seen items of each user, of the known rows.

    Nothing is learned from them. They stand at the data cutoff at the latest: what is later counts as news.
    """
    cutoff_us = history.timestamp_us[history.is_train].max() + 1
    users, items = dataset.users()[USER_ID], dataset.items()[ITEM_ID].to_numpy()
    place = np.empty(len(items), dtype=np.int32)  # of each item among the sorted ids
    place[np.argsort(items, kind="stable")] = np.arange(len(items), dtype=np.int32)
    rows = np.flatnonzero(known).astype(np.int32)
    rows = rows[np.lexsort((place[history.item_row[rows]], history.timestamp_us[rows], history.user_row[rows]))]
    ends = np.cumsum(np.bincount(history.user_row[rows], minlength=len(users)))
    # As many users at a time as have about PART_ROWS rows.
    cuts = np.unique(np.r_[0, np.searchsorted(ends, np.arange(PART_ROWS, ends[-1], PART_ROWS)), len(users)])
    for first, last in itertools.pairwise(cuts.tolist()):
        start = ends[first - 1] if first else 0
        part, part_ends = rows[start : ends[last - 1]], ends[first:last] - start
        item, is_liked, time = items[history.item_row[part]], history.liked[part], history.timestamp_us[part]
        num_liked = np.r_[0, np.cumsum(is_liked)]
        stamps = np.where(np.diff(part_ends, prepend=0) > 0, np.r_[time, 0][part_ends - 1] + 1, EPOCH_US)
        stamps = np.minimum(stamps, cutoff_us)
        yield pd.DataFrame(
            {
                USER_ID: users[first:last].to_numpy(),
                EVENT_TIMESTAMP: _times(stamps),
                "recent_liked": [list(p[-length:]) for p in np.split(item[is_liked], num_liked[part_ends][:-1])],
                "seen": [list(p) for p in np.split(item, part_ends[:-1])],
            }
        )


def _times(stamp_us: NDArray[np.int64]) -> pd.Series:
    return pd.Series(pd.to_datetime(stamp_us, unit="us", utc=True)).astype("datetime64[us, UTC]")
