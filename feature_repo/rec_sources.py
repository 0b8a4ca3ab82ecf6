"""Sources: the Parquet files of a feature data folder, one per view.

The folder is named by LOREFUSE_FEATURE_DATA; by default it is the one last materialised.
"""

import json
import os
from pathlib import Path

from feast import FileSource

default_path = Path(__file__).parent.parent / ".lorefuse" / "feature_store" / "feature_data"
feature_data_path = Path(os.environ.get("LOREFUSE_FEATURE_DATA", default_path)).resolve()
views = json.loads((feature_data_path / "views.json").read_text("utf-8"))["views"]

sources = {
    name: FileSource(
        name=f"{name}_source",
        path=str(feature_data_path / "sources" / f"{name}.parquet"),
        timestamp_field="event_timestamp",
    )
    for name in views
}
