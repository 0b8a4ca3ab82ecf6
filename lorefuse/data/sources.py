"""One door to all sources: the configuration's `kind` decides who reads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lorefuse.config import DataConfig, FileSource, MovieLensSource
from lorefuse.config.sources import AmazonSource, MINDSource, PublicSource, RecBoleSource
from lorefuse.core.atomic import sha256_file, sha256_folder
from lorefuse.data.quarantine import Quarantine
from lorefuse.data.tables import RawTables

if TYPE_CHECKING:
    Source = MovieLensSource | FileSource | PublicSource


def read_source(source: Source, quarantine: Quarantine) -> RawTables:
    """Read the raw tables of any source.

    Args:
        source: The configuration's section ``data.source``.
        quarantine: Receives lines that cannot be read.

    Raises:
        DataError: A file is missing, damaged or of another format.
        UnreachableError: A download failed.
    """
    if isinstance(source, FileSource):
        from lorefuse.data.files import read_files

        return read_files(source, quarantine)
    if isinstance(source, AmazonSource):
        from lorefuse.data.amazon import read_amazon

        return read_amazon(source, quarantine)
    if isinstance(source, MINDSource):
        from lorefuse.data.mind import read_mind

        return read_mind(source, quarantine)
    if isinstance(source, RecBoleSource):
        from lorefuse.data.recbole import read_recbole

        return read_recbole(source, quarantine)
    if isinstance(source, MovieLensSource):
        from lorefuse.data.movielens import read_movielens

        return read_movielens(source)
    from lorefuse.data.movielens_large import read_movielens_large

    return read_movielens_large(source, quarantine)


def local_digests(config: DataConfig) -> dict[str, str]:
    """Return the sha256 of every local file or folder that the source names, by field.

    They are part of the ingest step's address: a changed file makes a new dataset.
    """
    paths = {name: getattr(config.source, name) for name in type(config.source).model_fields if name.endswith("_path")}
    return {
        name: sha256_folder(path) if path.is_dir() else sha256_file(path)
        for name, path in paths.items()
        if isinstance(path, Path) and path.exists()
    }
