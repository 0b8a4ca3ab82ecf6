"""Fill a bundle: everything that a model version carries, with its graphs checked against torch."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lorefuse.config import PipelineConfig, ServingConfig
from lorefuse.core.atomic import sha256_file, write_json
from lorefuse.core.errors import ArtifactError, LeakError
from lorefuse.core.schema import TEXT
from lorefuse.export.bundle import (
    BUNDLE_FILE,
    CONFIG_FILE,
    EMBEDDING_FILE,
    FEATURE_FILES,
    FIX,
    FORMAT,
    METRICS_FILE,
    OWN_REDUCERS_FILE,
    REDUCER_FILE,
    SERVING_FILE,
    STAGE_FILES,
    TABLES_FILE,
)
from lorefuse.export.catalogue import CATALOGUE_FILE, catalogue_frame
from lorefuse.lists.stage_files import CANDIDATES_FILE, LIST_RANKER_FOLDER

if TYPE_CHECKING:
    from lorefuse.data.dataset import Dataset
    from lorefuse.models.ranker import Ranker
    from lorefuse.training_set.arrays import TrainingSet
    from lorefuse.training_set.spec import FeatureSpec

NUM_REFERENCE_USERS = 32


def write_bundle(
    ranker: Ranker,
    training_set: TrainingSet,
    config: PipelineConfig,
    feature_data_path: Path,
    item_vectors_path: Path,
    embeddings_path: Path,
    dataset_path: Path,
    metrics: dict[str, Any],
    out_path: Path,
    lists_path: Path | None = None,
) -> dict[str, Any]:
    """Fill a folder with everything a model version carries, export its graphs and hold them to torch.

    Args:
        ranker: The trained ranker.
        training_set: What it was trained and judged on.
        config: What made it; `config.model` must be the ranker's own (after tuning: the best trial's).
        feature_data_path: Vocabularies, views and item prior.
        item_vectors_path: The text reducer.
        embeddings_path: The embedding's address.
        dataset_path: Ids and titles of the catalogue.
        metrics: Test metrics with controls, JSON-able.
        out_path: Folder to fill; the caller makes it appear atomically.
        lists_path: Candidates, and what the list is worth; None, or an empty folder: the ranker orders all items.

    Returns:
        The parity report with num_items and size_bytes; past one graph, recall of the index as well.

    Raises:
        ArtifactError: An input is missing, `config.model` does not fit the ranker, a graph differs from torch, or the
            index of a catalogue past one graph finds too little.
        LeakError: The knowledge was fitted on later data than the features.
    """
    from lorefuse.data.dataset import Dataset
    from lorefuse.embedding.dtype_choice import pinned
    from lorefuse.export.encoder import export_encoder
    from lorefuse.export.graphs import export_graphs
    from lorefuse.export.stages import export_encoders
    from lorefuse.features.history import with_history
    from lorefuse.models.build import save_ranker

    ranker = ranker.eval().cpu()
    # Whoever encodes for this version does so as its items were encoded.
    embedding = pinned(config.embedding, embeddings_path)
    config = config.model_copy(update={"embedding": embedding})
    training_set = with_history(training_set, ranker.spec.history_length)
    _check_cutoff(training_set.spec, item_vectors_path)
    save_ranker(ranker, config.model, out_path)
    training_set.spec.save(out_path)
    write_json(out_path / CONFIG_FILE, config.model_dump(mode="json"))
    write_json(out_path / METRICS_FILE, metrics)
    for folder_path, names in ((feature_data_path, FEATURE_FILES), (embeddings_path, (EMBEDDING_FILE,))):
        for name in names:
            _copy(folder_path / name, out_path)
    if training_set.spec.knowledge_dim(TEXT) or (item_vectors_path / REDUCER_FILE).is_file():
        _copy(item_vectors_path / REDUCER_FILE, out_path)
    if config.knowledge.item_vectors:
        _copy(item_vectors_path / OWN_REDUCERS_FILE, out_path)
    dataset = Dataset.open(dataset_path)
    num_items = _write_catalogue(dataset, out_path)
    _write_tables(training_set, num_items, out_path)
    _write_serving_facts(training_set, config.serving, dataset, out_path)
    list_ranker_path: Path | None = None
    if lists_path is not None and (lists_path / CANDIDATES_FILE).is_file():
        for name in STAGE_FILES:
            _copy(lists_path / name, out_path)
        export_encoders(lists_path, config, out_path)
        if (lists_path / LIST_RANKER_FOLDER).is_dir():
            list_ranker_path = lists_path / LIST_RANKER_FOLDER
    parity = export_graphs(training_set, config, out_path, list_ranker_path)
    if config.serving.embed and training_set.spec.knowledge_dim(TEXT):
        export_encoder(embedding, out_path)
    files = sorted(p for p in out_path.iterdir() if p.is_file() and not p.name.startswith("."))
    content = {
        "format": FORMAT,
        "sha256": {file.name: sha256_file(file) for file in files},
        "data_cutoff": training_set.spec.data_cutoff,
        "parity": parity,
    }
    write_json(out_path / BUNDLE_FILE, content)
    return {**parity, "num_items": num_items, "size_bytes": sum(file.stat().st_size for file in files)}


def _check_cutoff(spec: FeatureSpec, item_vectors_path: Path) -> None:
    facts_path = item_vectors_path / "item_vectors.json"
    try:
        cutoff = json.loads(facts_path.read_text("utf-8"))["data_cutoff"]
    except (OSError, ValueError, KeyError) as error:
        raise ArtifactError(f"{facts_path} cannot be read.", got=repr(error), fix=FIX) from None
    if cutoff > spec.data_cutoff:
        raise LeakError(
            "The item vectors know later data than the features.",
            expected=f"a cutoff of at most {spec.data_cutoff}",
            got=str(cutoff),
            fix="fit both on the same split: lorefuse run",
        )


def _copy(source_path: Path, out_path: Path) -> None:
    try:
        shutil.copy2(source_path, out_path / source_path.name)
    except FileNotFoundError:
        raise ArtifactError(f"A model version must carry {source_path.name}.", got="no such file", fix=FIX) from None


def _write_catalogue(dataset: Dataset, out_path: Path) -> int:
    frame = catalogue_frame(dataset.items(), dataset.roles)
    frame.to_parquet(out_path / CATALOGUE_FILE, index=False)
    return len(frame)


def _write_tables(training_set: TrainingSet, num_items: int, out_path: Path) -> None:
    from safetensors.numpy import save_file

    tables = training_set.item_tables()
    rows = {len(table) for table in tables.values()}
    if rows != {num_items}:
        raise ArtifactError(
            "The training set's item tables do not fit the dataset.",
            expected=f"{num_items} items",
            got=str(sorted(rows)),
            fix=FIX,
        )
    save_file({name: np.ascontiguousarray(table) for name, table in tables.items()}, str(out_path / TABLES_FILE))


def _write_serving_facts(training_set: TrainingSet, serving: ServingConfig, dataset: Dataset, out_path: Path) -> None:
    from lorefuse.core.schema import Split
    from lorefuse.data.names import said_names
    from lorefuse.features.aggregates import ITEM_NUMERIC, USER_NUMERIC, item_features, user_features

    train = training_set.rows_of(Split.TRAIN)
    overall_mean = float(training_set.label[train].mean(dtype=np.float64))
    user_nothing = user_features(np.zeros((1, 3)), overall_mean)[0]
    item_nothing = item_features(np.zeros((1, 3)), overall_mean)[0]
    spec = training_set.spec
    filters, context = said_names(dataset.roles, dataset.manifest["reports"])
    facts: dict[str, Any] = {
        "num_items": len(training_set.item_fields),
        "limits": serving.model_dump(mode="json"),
        "overall_mean": overall_mean,
        # The state at the epoch, before anything is known: what training saw for a first interaction.
        "user_without_history": dict(zip(USER_NUMERIC, map(float, user_nothing), strict=True)),
        "item_without_history": dict(zip(ITEM_NUMERIC, map(float, item_nothing), strict=False)),
    }
    facts["said_names"] = {"filters": filters, "context": context}
    facts["pseudonyms"] = dataset.manifest.get("privacy", {}).get("pseudonyms", "")
    facts["reference_users"] = _reference_users(training_set, dataset)
    unknown = set(spec.user_numeric) - set(USER_NUMERIC)
    if unknown:
        raise ArtifactError("Some user numerics have no value for a user without history.", got=str(sorted(unknown)))
    write_json(out_path / SERVING_FILE, facts)


def _reference_users(training_set: TrainingSet, dataset: Dataset) -> list[dict[str, Any]]:
    """Return some users with their indices as training has them: a deployment must serve the same."""
    ids = dataset.users()["user_id"]
    rows = np.unique(np.linspace(0, len(ids) - 1, NUM_REFERENCE_USERS).astype(np.int64))
    return [{"user_id": str(ids[row]), "fields": training_set.user_fields[row].tolist()} for row in rows]
