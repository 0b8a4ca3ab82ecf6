"""Feature data: one Parquet source per feature view, with the vocabularies, prior and spec that explain them."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from lorefuse.config import PipelineConfig
from lorefuse.core.atomic import write_json
from lorefuse.core.errors import ArtifactError
from lorefuse.core.schema import SPLIT_CODES, Split
from lorefuse.data.dataset import Dataset
from lorefuse.data.split import load_split
from lorefuse.features.aggregates import ITEM_NUMERIC, USER_NUMERIC
from lorefuse.features.context import context_facets
from lorefuse.features.interactions import InteractionRows, Tables, encode_tables
from lorefuse.features.profile import profile_facets
from lorefuse.features.rows import Interactions, interest_facets, item_prior
from lorefuse.features.sources import item_sources, user_sources, write_sources
from lorefuse.features.vocabulary import save_vocabularies
from lorefuse.training_set.spec import FeatureSpec
from lorefuse.training_set.vectors import ItemVectors

VIEWS_FILE, TABLES_FILE = "views.json", "tables.safetensors"


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
    rows = InteractionRows.of(dataset, frame)
    del frame  # at many rows what is not read again makes room
    pa.default_memory_pool().release_unused()
    tables = encode_tables(dataset, rows, config.features)
    history = history_of(rows, config.data.label.kind)
    spec = make_spec(tables, vectors, config.data.label.kind, facts["data_cutoff"])
    prior = item_prior(
        history,
        vectors.knowledge,
        tables.item_fields,
        tables.item_multi,
        spec,
        shrinkage=config.features.prior_shrinkage,
        num_folds=config.features.num_prior_folds,
    )
    (out_path / "sources").mkdir()
    known = np.isin(rows.split_code, [SPLIT_CODES[part] for part in (Split.TRAIN, Split.VALIDATION)])
    sources = itertools.chain(
        user_sources(dataset, history, vectors, config, known), item_sources(dataset, history, vectors, prior)
    )
    views, num_snapshots = write_sources(sources, out_path / "sources")
    write_json(out_path / VIEWS_FILE, {"views": views, "data_cutoff": facts["data_cutoff"]})
    save_vocabularies(tables.vocabularies, out_path)
    prior.save(out_path)
    spec.save(out_path)
    encoded = {"user_fields": tables.user_fields, "item_fields": tables.item_fields, "item_multi": tables.item_multi}
    save_file({k: np.ascontiguousarray(v) for k, v in encoded.items()}, str(out_path / TABLES_FILE))
    return {"num_snapshots": num_snapshots}


def history_of(rows: InteractionRows, label_kind: str) -> Interactions:
    """Return the rows as aggregates see them."""
    return Interactions.of(
        rows.user_row, rows.item_row, rows.timestamp_us, rows.label, rows.value, rows.is_train, label_kind
    )


def make_spec(tables: Tables, vectors: ItemVectors, label_kind: str, data_cutoff: str) -> FeatureSpec:
    """Describe the model's inputs."""
    dims = {block.name: block.dim for block in vectors.blocks}
    return FeatureSpec(
        user_fields=tables.user_specs,
        item_fields=tables.item_specs,
        item_multi_fields=tables.multi_specs,
        user_numeric=USER_NUMERIC,
        item_numeric=ITEM_NUMERIC,
        interest=interest_facets(dims) + profile_facets(vectors) + context_facets(vectors),
        knowledge=vectors.blocks,
        label_kind=label_kind,
        data_cutoff=data_cutoff,
    )


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
