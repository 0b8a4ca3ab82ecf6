"""Steps from train rows through the feature store to a training set."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from lorefuse.config import parse_config
from lorefuse.core.atomic import sha256_file
from lorefuse.core.log import reported
from lorefuse.core.settings import settings
from lorefuse.core.step_cache import StepResult, reuse_or_build
from lorefuse.steps.common import Config, Folder, origins


@reported
def features(config: Config, dataset: Folder, split: Folder, item_vectors: Folder) -> StepResult:
    """Train rows → feature data."""
    pipeline = parse_config(config)
    paths = origins(dataset=dataset, split=split, item_vectors=item_vectors)

    def build(out_path: Path) -> dict[str, Any]:
        from lorefuse.data.dataset import Dataset
        from lorefuse.features.build import build_feature_data
        from lorefuse.training_set.vectors import ItemVectors

        loaded = ItemVectors.load(paths["item_vectors"])
        return build_feature_data(Dataset.open(paths["dataset"]), paths["split"], loaded, pipeline, out_path)

    key = [pipeline.features.model_dump(), pipeline.data.label.model_dump()]
    return reuse_or_build("features", config=key, inputs=paths, build=build)


@reported
def materialize(config: Config, feature_data: Folder) -> StepResult:
    """Feature data → Feast registry and online store."""
    parse_config(config)
    paths = origins(feature_data=feature_data)
    repo_path = settings().folder("feature_repo")
    servers = bool(settings().online_store_url)
    files = [*repo_path.glob("*.py"), *(repo_path.glob("feature_store.prod.yaml") if servers else ())]
    definitions = {file.name: sha256_file(file) for file in sorted(files)}

    def build(out_path: Path) -> dict[str, Any]:
        from lorefuse.feature_store.store import apply_and_materialize

        return apply_and_materialize(paths["feature_data"], out_path)

    key = [definitions, servers]
    result = reuse_or_build("materialize", config=key, inputs=paths, build=build)
    if servers and result.reused:
        from lorefuse.feature_store.store import ensure_filled

        refilled = ensure_filled(paths["feature_data"], result.path)  # servers forget what files do not
        return replace(result, reused=not refilled, summary={**result.summary, "refilled": refilled})
    return result


@reported
def training_set(
    config: Config, dataset: Folder, split: Folder, item_vectors: Folder, feature_data: Folder, store: Folder
) -> StepResult:
    """Feature store → training set, joined point in time."""
    parse_config(config)
    paths = origins(dataset=dataset, split=split, item_vectors=item_vectors, feature_data=feature_data, store=store)

    def build(out_path: Path) -> dict[str, Any]:
        from lorefuse.data.dataset import Dataset
        from lorefuse.feature_store.retrieve import retrieve_training_set
        from lorefuse.training_set.vectors import ItemVectors

        return retrieve_training_set(
            Dataset.open(paths["dataset"]),
            paths["split"],
            ItemVectors.load(paths["item_vectors"]),
            paths["feature_data"],
            paths["store"],
            out_path,
        )

    return reuse_or_build("training_set", config=None, inputs=paths, build=build)
