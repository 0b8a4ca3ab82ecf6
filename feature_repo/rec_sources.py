"""Sources: the Parquet files of a feature data folder, one per view.

LOREFUSE_FEATURE_DATA names the folder; without it, it is the one that the project built last.
"""

import json
import os
from pathlib import Path

from feast import FileSource


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

sources = {
    name: FileSource(
        name=f"{name}_source",
        path=str(feature_data_path / "sources" / f"{name}.parquet"),
        timestamp_field="event_timestamp",
    )
    for name in views
}
