"""Steps of the backfill pipeline: divide days into ranges, compute each by itself, keep them together."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lorefuse.config import parse_config
from lorefuse.core.atomic import atomic_folder, sha256_file, write_json
from lorefuse.core.log import reported
from lorefuse.core.settings import settings
from lorefuse.core.step_cache import StepResult, origin, reuse_or_build
from lorefuse.steps.common import Config, Folder, origins

MANIFEST_FILE = "manifest.json"


@reported
def day_ranges(config: Config, first: str, last: str, num_days: int) -> list[dict[str, str]]:
    """First and last day → ranges of days."""
    from lorefuse.features.days import day_ranges as run

    parse_config(config)
    return run(first, last, num_days)


@reported
def backfill_days(
    config: Config, days: dict[str, str], dataset: Folder, feature_data: Folder, store: Folder
) -> StepResult:
    """A range of days → its interactions with the features of their own past."""
    parse_config(config)
    folders = {"dataset": dataset, "feature_data": feature_data, "store": store}
    paths = origins(**folders)

    def build(out_path: Path) -> dict[str, Any]:
        from lorefuse.data.dataset import Dataset
        from lorefuse.feature_store.backfill import backfill_days as run

        data = Dataset.open(paths["dataset"])
        return run(data, paths["feature_data"], paths["store"], days["first"], days["last"], out_path)

    return reuse_or_build("backfill_days", config=dict(days), inputs=paths, build=build)


@reported
def close_backfill(config: Config, parts: Sequence[Folder]) -> StepResult:
    """Ranges of days → `<home>/backfill/<name>/`, a Parquet file each, with a manifest."""
    import pyarrow.parquet as pq

    pipeline = parse_config(config)
    paths = {str(number): origin(Path(part)) for number, part in enumerate(parts)}

    def build(out_path: Path) -> dict[str, Any]:
        entries = {}
        for file in sorted(file for path in paths.values() for file in path.glob("*.parquet")):
            shutil.copyfile(file, out_path / file.name)
            num_rows = pq.read_metadata(file).num_rows
            entries[file.name] = {"num_rows": num_rows, "sha256": sha256_file(file)}
        write_json(out_path / MANIFEST_FILE, entries)
        return {"num_ranges": len(entries), "num_rows": sum(entry["num_rows"] for entry in entries.values())}

    result = reuse_or_build("close_backfill", config=None, inputs=paths, build=build)
    with atomic_folder(settings().home_path / "backfill" / pipeline.name) as draft_path:
        shutil.copytree(result.path, draft_path, ignore=shutil.ignore_patterns(".*"), dirs_exist_ok=True)
    return result
