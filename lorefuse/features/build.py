"""Feature data: one Parquet source per feature view, with the vocabularies, prior and spec that explain them.

Every user and item has a snapshot at the epoch (nothing known yet) and one after each moment at which a train row of
theirs happened. A snapshot that includes the rows of moment t is stamped t + 1 µs: a join for a label of moment t,
which takes snapshots at or before t, then sees rows strictly before t and no others.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from lorefuse import contract as c
from lorefuse.atomic import write_json
from lorefuse.config import PipelineConfig
from lorefuse.contract import View
from lorefuse.data.dataset import Dataset
from lorefuse.data.split import load_split
from lorefuse.errors import ArtifactError
from lorefuse.features import aggregates as a
from lorefuse.features.causal import CausalSums
from lorefuse.features.context import context_facets
from lorefuse.features.frame import Rows, Tables, encode_tables
from lorefuse.features.prior import ItemPrior
from lorefuse.features.profile import profile_facets, profile_snapshots
from lorefuse.features.rows import FACETS, History, interest_facets, item_prior
from lorefuse.features.spec import FeatureSpec
from lorefuse.features.vocabulary import save_vocabularies
from lorefuse.knowledge.item_vectors import ItemVectors

VIEWS_FILE, TABLES_FILE = "views.json", "tables.safetensors"
EPOCH_US = 0
_TYPES = {
    "float": pa.float32(),
    "string": pa.string(),
    "floats": pa.list_(pa.float32()),
    "strings": pa.list_(pa.string()),
}


@dataclass(frozen=True)
class Source:
    """What a feature view reads: its entity and columns, each with a type of `_TYPES`."""

    entity: str
    fields: dict[str, str]
    frame: pd.DataFrame


def build_feature_data(
    dataset: Dataset, split_path: Path, vectors: ItemVectors, config: PipelineConfig, out_path: Path
) -> dict[str, Any]:
    """Compute all features from train rows and write the feature data folder.

    Args:
        dataset: The dataset.
        split_path: Which rows are train.
        vectors: Knowledge of every item.
        config: Shrinkages, folds, label.
        out_path: Empty folder to fill.

    Returns:
        Snapshot counts by view.
    """
    from safetensors.numpy import save_file

    frame, facts = load_split(split_path)
    rows = Rows.of(dataset, frame)
    tables = encode_tables(dataset, rows, config.features)
    history = history_of(rows, config.data.label.kind)
    spec = make_spec(tables, vectors, config.data.label.kind, facts["data_cutoff"])
    prior = item_prior(
        history,
        vectors.text,
        vectors.graph,
        tables.item_fields,
        tables.item_multi,
        spec,
        shrinkage=config.features.prior_shrinkage,
        num_folds=config.features.num_prior_folds,
    )
    (out_path / "sources").mkdir()
    views = _write_sources(_user_sources(dataset, history, vectors, config), out_path)
    views |= _write_sources(_item_sources(dataset, history, vectors, prior), out_path)
    num_snapshots = {view: content.pop("num_snapshots") for view, content in views.items()}
    write_json(out_path / VIEWS_FILE, {"views": views, "data_cutoff": facts["data_cutoff"]})
    save_vocabularies(tables.vocabularies, out_path)
    prior.save(out_path)
    spec.save(out_path)
    encoded = {"user_fields": tables.user_fields, "item_fields": tables.item_fields, "item_multi": tables.item_multi}
    save_file({k: np.ascontiguousarray(v) for k, v in encoded.items()}, str(out_path / TABLES_FILE))
    return {"num_snapshots": num_snapshots}


def history_of(rows: Rows, label_kind: str) -> History:
    """Return the rows as aggregates see them."""
    return History.of(
        rows.user_row, rows.item_row, rows.timestamp_us, rows.label, rows.value, rows.is_train, label_kind
    )


def make_spec(tables: Tables, vectors: ItemVectors, label_kind: str, data_cutoff: str) -> FeatureSpec:
    """Describe the model's inputs."""
    text_dim, graph_dim = vectors.text.shape[1], vectors.graph.shape[1]
    blocks = tuple(vectors.facts.get("text_blocks", ()))
    return FeatureSpec(
        user_fields=tables.user_specs,
        item_fields=tables.item_specs,
        item_multi_fields=tables.multi_specs,
        user_numeric=a.USER_NUMERIC,
        item_numeric=a.ITEM_NUMERIC,
        interest=interest_facets(text_dim, graph_dim) + profile_facets(vectors) + context_facets(vectors),
        text_dim=text_dim,
        text_blocks=blocks if len(blocks) > 1 else (),
        graph_dim=graph_dim,
        label_kind=label_kind,
        data_cutoff=data_cutoff,
    )


def _user_sources(
    dataset: Dataset, history: History, vectors: ItemVectors, config: PipelineConfig
) -> Iterator[tuple[View, Source]]:
    yield View.USER_HISTORY, _history_source(dataset, history, config.features.history_length)
    attributes = dataset.users()[[c.USER_ID, *dataset.roles.user_categories]]
    yield View.USER_ATTRIBUTES, _static("user", attributes, dict.fromkeys(dataset.roles.user_categories, "string"))
    user_ids = dataset.users()[c.USER_ID].to_numpy()
    at = _Moments.of(history.user_sums, history.is_train, history.user_row, history.timestamp_us, user_ids)
    stats = a.user_features(at.state(history.user_sums), history.overall_mean)
    yield View.USER_STATS, at.source("user", c.USER_ID, dict(zip(a.USER_NUMERIC, stats.T, strict=True)), "float")
    interest: dict[str, Any] = {}
    for name, matrix in (("text", vectors.text), ("graph", vectors.graph)):
        if matrix.shape[1]:
            state = at.state(history.interest_sums(matrix))
            sides = a.interest_features(state, history.overall_value, config.features.interest_shrinkage)
            interest |= {f"{facet}_{name}": list(side) for facet, side in zip(FACETS, sides, strict=True)}
    for name, after in profile_snapshots(history, vectors, config.features.interest_shrinkage).items():
        at_the_epoch = np.zeros((len(at.entity_row) - len(after), after.shape[1]), dtype=np.float32)
        interest[name] = list(np.concatenate([at_the_epoch, after]))
    if interest:
        yield View.USER_INTEREST, at.source("user", c.USER_ID, interest, "floats")


def _item_sources(
    dataset: Dataset, history: History, vectors: ItemVectors, prior: ItemPrior
) -> Iterator[tuple[View, Source]]:
    items, roles = dataset.items(), dataset.roles
    fields = dict.fromkeys((roles.item_title, *roles.item_categories), "string")
    fields |= dict.fromkeys(roles.item_multi_categories, "strings")
    fields.pop(c.ITEM_ID, None)
    yield View.ITEM_ATTRIBUTES, _static("item", items[[c.ITEM_ID, *fields]], fields)
    sums = history.item_sums
    at = _Moments.of(sums, history.is_train, history.item_row, history.timestamp_us, items[c.ITEM_ID].to_numpy())
    stats = a.item_features(at.state(sums), history.overall_mean)
    numeric = np.concatenate([stats, prior.values[at.entity_row][:, None]], axis=1)
    yield View.ITEM_STATS, at.source("item", c.ITEM_ID, dict(zip(a.ITEM_NUMERIC, numeric.T, strict=True)), "float")
    for view, name, matrix in (
        (View.ITEM_TEXT, "text_vector", vectors.text),
        (View.ITEM_GRAPH, "graph_vector", vectors.graph),
    ):
        if matrix.shape[1]:
            frame = pd.DataFrame({c.ITEM_ID: items[c.ITEM_ID], name: list(matrix)})
            yield view, _static("item", frame, {name: "floats"})


@dataclass(frozen=True)
class _Moments:
    """Snapshots of one kind of entity: the epoch for everybody, then one after each moment with a train row."""

    rows: NDArray[np.int64]
    entity_row: NDArray[np.int32]
    entity_id: NDArray[Any]
    stamp_us: NDArray[np.int64]

    @classmethod
    def of(
        cls,
        sums: CausalSums,
        is_train: NDArray[np.bool_],
        entity_row: NDArray[np.int32],
        timestamp_us: NDArray[np.int64],
        entity_ids: NDArray[Any],
    ) -> _Moments:
        rows = sums.snapshot_rows(is_train)
        every = np.arange(len(entity_ids), dtype=np.int32)
        entities = np.concatenate([every, entity_row[rows]])
        stamps = np.concatenate([np.full(len(every), EPOCH_US), timestamp_us[rows] + 1])
        return cls(rows, entities, entity_ids[entities], stamps)

    def state(self, sums: CausalSums) -> NDArray[np.float64]:
        """Sums as of each snapshot: zeros at the epoch, then everything up to and including the moment."""
        after = sums.after(self.rows)
        return np.concatenate([np.zeros((len(self.entity_row) - len(after), after.shape[1])), after])

    def source(self, entity: str, key: str, columns: dict[str, Any], kind: str) -> Source:
        frame = pd.DataFrame({key: self.entity_id, c.EVENT_TIMESTAMP: _times(self.stamp_us)} | columns)
        return Source(entity, dict.fromkeys(columns, kind), frame)


def _static(entity: str, frame: pd.DataFrame, fields: dict[str, str]) -> Source:
    """A source whose only snapshot is at the epoch, so that every label may see it."""
    return Source(entity, fields, frame.assign(**{c.EVENT_TIMESTAMP: _times(np.full(len(frame), EPOCH_US))}))


def _history_source(dataset: Dataset, history: History, length: int) -> Source:
    """Recent liked items (newest last) and all seen items of each user, as of the data cutoff."""
    users, items = dataset.users()[c.USER_ID], dataset.items()[c.ITEM_ID].to_numpy()
    place = np.empty(len(items), dtype=np.int32)  # of each item among the sorted ids
    place[np.argsort(items, kind="stable")] = np.arange(len(items), dtype=np.int32)
    train = np.flatnonzero(history.is_train)
    user = history.user_row[train]
    order = np.lexsort((place[history.item_row[train]], history.timestamp_us[train], user))
    rows, user = train[order], user[order]
    item, is_liked, time = items[history.item_row[rows]], history.liked[rows], history.timestamp_us[rows]
    ends = np.searchsorted(user, np.arange(len(users)), side="right")
    liked_item, liked_ends = item[is_liked], np.cumsum(is_liked)[ends - 1] * (ends > 0)
    stamps = np.where(np.diff(ends, prepend=0) > 0, time[ends - 1] + 1, EPOCH_US)
    table = pd.DataFrame(
        {
            c.USER_ID: users,
            c.EVENT_TIMESTAMP: _times(stamps),
            "recent_liked": [list(part[-length:]) for part in np.split(liked_item, liked_ends[:-1])],
            "seen": [list(part) for part in np.split(item, ends[:-1])],
        }
    )
    return Source("user", {"recent_liked": "strings", "seen": "strings"}, table)


def _write_sources(sources: Iterator[tuple[View, Source]], out_path: Path) -> dict[str, dict[str, Any]]:
    views = {}
    for view, source in sources:
        if source.fields:
            _write_source(source, out_path / "sources" / f"{view}.parquet")
            views[str(view)] = {"entity": source.entity, "fields": source.fields, "num_snapshots": len(source.frame)}
        del source  # a frame of many rows: gone before the next one is made
    return views


def _write_source(source: Source, path: Path) -> None:
    key = c.USER_ID if source.entity == "user" else c.ITEM_ID
    schema = pa.schema(
        [(key, pa.string()), (c.EVENT_TIMESTAMP, pa.timestamp(c.TIMESTAMP_UNIT, "UTC"))]
        + [(name, _TYPES[kind]) for name, kind in source.fields.items()]
    )
    pq.write_table(pa.Table.from_pandas(source.frame[schema.names], schema=schema, preserve_index=False), path)


def _times(stamp_us: NDArray[np.int64]) -> pd.Series:
    return pd.Series(pd.to_datetime(stamp_us, unit="us", utc=True)).astype("datetime64[us, UTC]")


def read_views(feature_data_path: Path) -> dict[str, Any]:
    """Return views and data cutoff of a feature data folder, as `feature_repo/` reads them.

    Raises:
        ArtifactError: There are none.
    """
    path = feature_data_path / VIEWS_FILE
    try:
        content: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path} holds no views.", got=str(error), fix="run again: lorefuse run") from None
    return content
