"""Steps of the refresh pipeline: append new rows, bring the features up to date, judge the champion on them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from lorefuse.config import parse_config
from lorefuse.core.atomic import atomic_file, sha256_file, write_json
from lorefuse.core.errors import DataError
from lorefuse.core.log import reported
from lorefuse.core.settings import settings
from lorefuse.core.step_cache import StepResult, origin, reuse_or_build
from lorefuse.steps.common import Config, Folder, dump_config, origins, own_digests

APPENDED_FILE = "appended.json"
READABLE = (".csv", ".tsv", ".parquet", ".pq", ".gz", ".bz2", ".xz", ".zip", ".txt", ".data", ".jsonl", ".json")


def new_files(new_path: Folder) -> list[Path]:
    """Return the files with new rows: the one that is named, or all of a folder in the order of their names.

    Raises:
        DataError: There is none.
    """
    path = Path(new_path).expanduser()
    files = sorted(p for p in path.iterdir() if p.suffix in READABLE) if path.is_dir() else [path]
    if not files or not files[0].is_file():
        raise DataError(
            f"There are no new rows in {path}.",
            expected="a CSV or Parquet file, or a folder of them",
            got="a folder without any" if path.is_dir() else "nothing there",
            fix="lorefuse refresh --new FILE",
        )
    return files


@reported
def append_rows(config: Config, dataset: Folder, new_path: str, new_items_path: str = "") -> StepResult:
    """Dataset and new files → the dataset that holds both; only the new rows are validated."""
    pipeline = parse_config(config)
    base_path, files = origin(Path(dataset)), new_files(new_path)
    items = new_files(new_items_path)[0] if new_items_path else None
    from lorefuse.data.intake import Intake

    intake = Intake.of(pipeline.privacy, pipeline.data.source)

    def build(out_path: Path) -> dict[str, Any]:
        import tempfile

        from lorefuse.data.append import append
        from lorefuse.data.dataset import Dataset

        total: dict[str, int] = {}
        with tempfile.TemporaryDirectory() as folder:
            base = Dataset.open(base_path)
            for number, file in enumerate(files, start=1):
                target_path = out_path if number == len(files) else Path(folder) / str(number)
                target_path.mkdir(exist_ok=True)
                facts = append(base, pipeline.data, file, items if number == 1 else None, target_path, intake)
                total = {name: total.get(name, 0) + count for name, count in facts.items()}
                base = Dataset.open(target_path)
        write_json(out_path / APPENDED_FILE, total)
        return total

    digests = [sha256_file(file) for file in files] + ([sha256_file(items)] if items else [])
    key = [pipeline.data.model_dump(mode="json"), digests, intake.address]
    return reuse_or_build("append_rows", config=key, inputs={"base": base_path}, build=build)


@reported
def champion(config: Config, dataset: Folder) -> StepResult:
    """Registry → the champion's bundle; its number is in the summary."""
    import shutil

    from lorefuse.drift.champion import find_champion
    from lorefuse.registry.version import fetch_bundle

    name = parse_config(config).registry.model_name
    version, digest = find_champion(name, origin(Path(dataset)))

    def build(out_path: Path) -> dict[str, Any]:
        bundle = fetch_bundle(name, version, out_path / "fetched")
        for file in bundle.path.iterdir():
            shutil.move(file, out_path / file.name)
        bundle.path.rmdir()
        return {}

    # By content: a registry that was begun anew gives its numbers again.
    result = reuse_or_build("champion", config=digest, inputs={}, build=build)
    return replace(result, summary={"version": version})


@reported
def update_features(
    config: Config, dataset: Folder, base: Folder, embeddings: Folder, item_vectors: Folder, feature_data: Folder
) -> StepResult:
    """Grown dataset → feature sources as of now, in the meaning of the champion."""
    pipeline = parse_config(config)
    paths = origins(
        dataset=dataset, base=base, embeddings=embeddings, item_vectors=item_vectors, feature_data=feature_data
    )

    def build(out_path: Path) -> dict[str, Any]:
        from lorefuse.data.dataset import Dataset
        from lorefuse.feature_store.new_entities import extend
        from lorefuse.feature_store.update import build_update
        from lorefuse.features.build import read_views

        merged, known = Dataset.open(paths["dataset"]), Dataset.open(paths["base"])
        folders = (paths["embeddings"], paths["item_vectors"], paths["feature_data"])
        extended = extend(merged, *folders, pipeline.knowledge)
        counts = {"user": len(known.users()), "item": len(known.items())}
        since = read_views(paths["feature_data"])["data_cutoff"]
        return build_update(merged, counts, extended, since, pipeline, out_path)

    key = [pipeline.features.model_dump(), pipeline.data.label.model_dump(), own_digests(pipeline)]
    return reuse_or_build("update_features", config=key, inputs=paths, build=build)


@reported
def update_store(config: Config, update: Folder, feature_data: Folder, store: Folder) -> StepResult:
    """Feature sources as of now → the store with what is later than it."""
    parse_config(config)
    paths = origins(update=update, feature_data=feature_data, store=store)

    def build(out_path: Path) -> dict[str, Any]:
        from lorefuse.feature_store.update import update_store as run
        from lorefuse.features.build import read_views

        since = read_views(paths["feature_data"])["data_cutoff"]
        return run(paths["update"], paths["store"], since, out_path)

    return reuse_or_build("update_store", config=None, inputs=paths, build=build)


@reported
def judge_refresh(
    config: Config,
    dataset: Folder,
    base: Folder,
    split: Folder,
    embeddings: Folder,
    item_vectors: Folder,
    feature_data: Folder,
    bundle: Folder,
    version: str,
) -> StepResult:
    """Champion and new rows → the report; `retrain` and the `config` to train with are in the summary."""
    from lorefuse.data.dataset import Dataset
    from lorefuse.drift.refresh import keep_preset
    from lorefuse.drift.track import track_refresh

    pipeline = parse_config(config)
    paths = origins(
        dataset=dataset,
        base=base,
        split=split,
        embeddings=embeddings,
        item_vectors=item_vectors,
        feature_data=feature_data,
        bundle=bundle,
    )

    def build(out_path: Path) -> dict[str, Any]:
        from lorefuse.drift.refresh import judge_refresh as run
        from lorefuse.export.bundle import Bundle

        return run(
            Dataset.open(paths["dataset"]),
            Dataset.open(paths["base"]),
            paths["split"],
            paths["embeddings"],
            paths["item_vectors"],
            paths["feature_data"],
            Bundle.load(paths["bundle"]),
            version,
            json.loads((paths["dataset"] / APPENDED_FILE).read_text("utf-8")),
            pipeline,
            out_path,
        )

    sections = ("name", "data", "features", "drift")
    key = [{name: pipeline.model_dump(mode="json")[name] for name in sections}, version]
    result = reuse_or_build("judge_refresh", config=key, inputs=paths, build=build)
    content = json.loads((result.path / "refresh.json").read_text("utf-8"))
    track_refresh(content, pipeline, result.path, result.digest)
    with atomic_file(settings().home_path / "refresh.html") as draft_path:
        draft_path.write_bytes((result.path / "refresh.html").read_bytes())
    if not content["retrain"]:
        return replace(result, summary={**result.summary, "config": config})
    grown, preset_path = keep_preset(Dataset.open(paths["dataset"]), pipeline, settings().home_path / "refresh")
    return replace(result, summary={**result.summary, "preset": str(preset_path), "config": dump_config(grown)})
