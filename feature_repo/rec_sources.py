"""Sources: the Parquet files of a feature data folder, one per view.

LOREFUSE_FEATURE_DATA names the folder; without it, it is the one that the project built last. With
LOREFUSE_OFFLINE_STORE=spark the same files are described as Feast's Spark store wants them.
"""

import json
import os
from pathlib import Path

from feast import FileSource
from feast.data_source import DataSource


def _find_feature_data() -> Path:
    if named := os.environ.get("LOREFUSE_FEATURE_DATA"):
        return Path(named).resolve()
    home_path = Path(os.environ.get("LOREFUSE_HOME", Path(__file__).parent.parent / ".lorefuse"))
    built = [file for file in home_path.glob("cache/steps/features/*/views.json") if "." not in file.parent.name]
    if not built:
        raise FileNotFoundError(
            f"There is no feature data in {home_path}.\n"
            "  fix: run: lorefuse run; or set LOREFUSE_FEATURE_DATA to a feature data folder"
        )
    return max(built, key=lambda file: file.stat().st_mtime_ns).parent.resolve()


feature_data_path = _find_feature_data()
views = json.loads((feature_data_path / "views.json").read_text("utf-8"))["views"]


def _source(name: str) -> DataSource:
    described = {
        "name": f"{name}_source",
        "path": str(feature_data_path / "sources" / f"{name}.parquet"),
        "timestamp_field": "event_timestamp",
    }
    if os.environ.get("LOREFUSE_OFFLINE_STORE") == "spark":
        from feast.infra.offline_stores.contrib.spark_offline_store.spark_source import SparkSource

        return SparkSource(**described, file_format="parquet")
    return FileSource(**described)


sources = {name: _source(name) for name in views}
