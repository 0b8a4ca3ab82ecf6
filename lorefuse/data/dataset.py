"""A dataset folder, checked when it is opened: whole, untampered, with the manifest that describes it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from lorefuse.core.atomic import sha256_file
from lorefuse.core.errors import ArtifactError
from lorefuse.core.schema import ITEM_ID, ROW_TEXTS, USER_ID, DatasetFile
from lorefuse.data.tables import Roles


@dataclass(frozen=True)
class Dataset:
    """A validated dataset. Open it with `Dataset.open`.

    Attributes:
        path: The folder.
        manifest: Schema, counts, sha256, cutoffs, roles and source.
    """

    path: Path
    manifest: dict[str, Any]

    @classmethod
    def open(cls, path: Path | str) -> Dataset:
        """Open a dataset folder and check every file against the manifest's sha256.

        Raises:
            ArtifactError: The manifest or a file is missing, truncated or changed.
        """
        path = Path(path)
        manifest_path = path / DatasetFile.MANIFEST
        fix = "run the ingest step again: lorefuse run"
        try:
            manifest = json.loads(manifest_path.read_text("utf-8"))
            digests = dict(manifest["sha256"])
            _roles(manifest)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ArtifactError(
                f"{path} is not a dataset folder.", expected=f"a readable {manifest_path.name}", got=str(error), fix=fix
            ) from None
        for name, digest in digests.items():
            file = path / name
            if not file.is_file():
                raise ArtifactError(f"{path} is not whole.", expected=f"the file {name}", got="no such file", fix=fix)
            if sha256_file(file) != digest:
                raise ArtifactError(
                    f"{file} has changed or was cut short.", expected=f"sha256 {digest}", got="another", fix=fix
                )
        return cls(path, manifest)

    @property
    def roles(self) -> Roles:
        """The part each column plays."""
        return _roles(self.manifest)

    def interactions(self) -> pd.DataFrame:
        """Return row_id, user_id, item_id, event_timestamp, value, label in order of time; texts: see `row_texts`."""
        names = [name for name in self._interaction_columns() if name not in ROW_TEXTS]
        return pd.read_parquet(self.path / DatasetFile.INTERACTIONS, columns=names)

    def coded_interactions(self) -> pd.DataFrame:
        """Return `interactions` with ids as categories in sorted order: the same frame in a fraction of the memory."""
        import pyarrow.parquet as pq

        names = [name for name in self._interaction_columns() if name not in ROW_TEXTS]
        ids = [USER_ID, ITEM_ID]
        table = pq.ParquetFile(self.path / DatasetFile.INTERACTIONS, read_dictionary=ids).read(columns=names)
        frame: pd.DataFrame = table.to_pandas(self_destruct=True, split_blocks=True)
        for name in ids:
            frame[name] = frame[name].cat.reorder_categories(sorted(frame[name].cat.categories))
        return frame

    def row_texts(self, column: str) -> list[str] | None:
        """Return a text of each interaction, empty where there is none; None where the data has no such text.

        Args:
            column: `contract.REVIEW_TEXT` or `contract.CONTEXT_TEXT`.
        """
        if column not in self._interaction_columns():
            return None
        texts = pd.read_parquet(self.path / DatasetFile.INTERACTIONS, columns=[column])[column]
        return [" ".join(text.split()) for text in texts]

    def items(self) -> pd.DataFrame:
        """Return item_id and the columns that the roles name; multi-categories as arrays of strings."""
        return self._read(DatasetFile.ITEMS)

    def users(self) -> pd.DataFrame:
        """Return user_id and its categories; every user of the interactions is there."""
        return self._read(DatasetFile.USERS)

    def triples(self) -> pd.DataFrame | None:
        """Return head, relation, tail; None where the dataset has no graph."""
        return self._read(DatasetFile.TRIPLES) if (self.path / DatasetFile.TRIPLES).exists() else None

    def links(self) -> pd.DataFrame | None:
        """Return item_id, entity_id; None where the dataset has no graph."""
        return self._read(DatasetFile.LINKS) if (self.path / DatasetFile.LINKS).exists() else None

    def _interaction_columns(self) -> list[str]:
        import pyarrow.parquet as pq

        names: list[str] = pq.read_schema(self.path / DatasetFile.INTERACTIONS).names
        return names

    def _read(self, name: DatasetFile) -> pd.DataFrame:
        return pd.read_parquet(self.path / name)


def _roles(manifest: dict[str, Any]) -> Roles:
    columns: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in manifest["roles"].items()}
    return Roles(**columns)
