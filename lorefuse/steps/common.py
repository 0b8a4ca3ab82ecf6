"""What all steps share: the kinds of their arguments, and the configuration as a pipeline parameter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lorefuse.config import FileSource, PipelineConfig
from lorefuse.core.atomic import sha256_file
from lorefuse.core.errors import DataError
from lorefuse.core.step_cache import origin

Config = dict[str, Any]
Folder = str | Path


def origins(**folders: Folder) -> dict[str, Path]:
    """Return the cached folders that published artifacts were copied from, by name."""
    return {name: origin(Path(folder)) for name, folder in folders.items()}


def own_digests(config: PipelineConfig) -> dict[str, str]:
    """Return the digest of each file of vectors that the configuration names, as it is now.

    Raises:
        DataError: One is not there.
    """
    digests = {}
    for name, own in config.knowledge.item_vectors.items():
        if not own.path.is_file():
            fix = f"correct knowledge.item_vectors.{name}"
            raise DataError(f"There is no file {own.path}.", expected="Parquet or npz with vectors of items", fix=fix)
        digests[name] = sha256_file(own.path)
    return digests


def dump_config(config: PipelineConfig) -> Config:
    """Return the configuration as a pipeline parameter: plain JSON without nulls, which kfp cannot carry."""
    content: Config = config.model_dump(mode="json", exclude_none=True)
    source = config.data.source
    if isinstance(source, FileSource) and source.value is None:
        content["data"]["source"]["value"] = ""  # left out it would become the default, a column
    return content
