"""Vectors of one's own: a file of item ids and vectors becomes a knowledge block, like the text and the graph.

Pictures, sounds or anything else that a model of the user's own has turned into vectors. They are reduced by a linear
map that is fitted on train items, and kept with the model: an item that comes later takes the same way.
"""

from __future__ import annotations

import logging
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lorefuse.config import KnowledgeConfig, OwnVectorsConfig
from lorefuse.core.errors import ArtifactError, ConfigError, DataError
from lorefuse.core.schema import ITEM_ID
from lorefuse.data.ids import as_ids
from lorefuse.embedding.reduce import Reducer, fit_reducer

VECTOR = "vector"
REDUCERS_FILE = "own_reducers.safetensors"
PARQUET = (".parquet", ".pq")
_log = logging.getLogger(__name__)


def own_blocks(
    item_ids: list[str], is_train: NDArray[np.bool_], config: KnowledgeConfig, out_path: Path
) -> tuple[dict[str, NDArray[np.float32]], dict[str, Any]]:
    """Return the blocks that `knowledge.item_vectors` names, and a report on each.

    Args:
        item_ids: Of the N items of the catalogue.
        is_train: Items with a train row, (N,): the maps are fitted on these alone.
        config: Names, files and dimensions.
        out_path: Folder that receives the maps.

    Returns:
        float32 (N, E) by name, zeros where an item has no vector; counts of items with a vector, and of ids in the
        file that the catalogue lacks.

    Raises:
        DataError: A file is missing, unreadable or empty, repeats an id, or holds vectors that are not finite or not
            of one width; or no item of the catalogue has a vector.
        ConfigError: More dimensions are asked for than train items differ in.
    """
    blocks, reducers, report = {}, {}, {}
    for name, own in config.item_vectors.items():
        vectors, known, num_unknown = vectors_of(own.path, item_ids)
        if not known.any():
            expected, got = f"ids of the catalogue, such as {item_ids[0]!r}", f"{num_unknown} other ids"
            raise DataError(f"No item has a vector in {own.path}.", expected=expected, got=got)
        reducers[name] = _fitted(name, own, vectors, np.flatnonzero(known & is_train))
        blocks[name] = reducers[name].transform(vectors, known)
        report[name] = {"num_items": int(known.sum()), "num_unknown_ids": num_unknown}
        if num_unknown or not known.all():
            _log.warning("%s: %d items have no vector; %d ids are of no item.", own.path, (~known).sum(), num_unknown)
    if reducers:
        _save_reducers(reducers, out_path)
    return blocks, report


def more_items(item_ids: list[str], config: KnowledgeConfig, folder_path: Path) -> dict[str, NDArray[np.float32]]:
    """Return the blocks of items that came after the model, by its own maps; zeros where the file has no vector.

    Args:
        item_ids: Of the n new items.
        config: Names and files; the files may have grown since.
        folder_path: Where the maps are.

    Raises:
        DataError: As `own_blocks`, or the vectors are of another width than those that the model was trained with.
        ArtifactError: The maps are missing or cut short.
    """
    reducers = _load_reducers(folder_path) if config.item_vectors else {}
    blocks = {}
    for name, own in config.item_vectors.items():
        vectors, known, _ = vectors_of(own.path, item_ids)
        width = len(reducers[name].mean)
        if known.any() and vectors.shape[1] != width:
            raise DataError(
                f"The vectors in {own.path} are not those that the model was trained with.",
                expected=f"width {width}",
                got=f"width {vectors.shape[1]}",
                fix="bring vectors of the same model, or train again: lorefuse run",
            )
        vectors = vectors if known.any() else np.zeros((len(item_ids), width), np.float32)
        blocks[name] = reducers[name].transform(vectors, known)
    return blocks


def vectors_of(path: Path, item_ids: list[str]) -> tuple[NDArray[np.float32], NDArray[np.bool_], int]:
    """Return the vectors of items in a file, (N, D), which items have one, (N,), and how many ids are of no item.

    Args:
        path: Parquet with the columns ``item_id`` and ``vector``, a list of numbers; or npz with arrays of these names.
        item_ids: Of the N items.

    Raises:
        DataError: As `own_blocks`.
    """
    ids, vectors = _read(path)
    if not len(ids):
        raise DataError(f"{path} is empty.", expected="an id and a vector for each item", got="no rows")
    missing, repeated = ids.isna(), ids.duplicated()
    for mask, what in ((missing, "has no id"), (repeated, "repeats an id"), (~np.isfinite(vectors).all(1), "is NaN")):
        if mask.any():
            row = int(np.flatnonzero(mask)[0])
            got = f"row {row}, id {ids.iloc[row]!r}, and {int(mask.sum()) - 1} more"
            raise DataError(f"A vector in {path} {what}.", expected="finite numbers, each id once", got=got)
    place = pd.Index(ids).get_indexer(pd.Index(item_ids))
    known = place >= 0
    found = np.zeros((len(item_ids), vectors.shape[1]), np.float32)
    found[known] = vectors[place[known]]
    known &= found.any(axis=1)  # a vector of zeros says as little as none
    return found, known, len(ids) - int((place >= 0).sum())


def _read(path: Path) -> tuple[pd.Series, NDArray[np.float32]]:
    import pyarrow as pa

    try:
        ids, cells = _parquet(path) if path.suffix in PARQUET else _npz(path)
    except KeyError as error:
        expected = f"{ITEM_ID} and {VECTOR}"
        raise DataError(f"{path} lacks {error.args[0]!r}.", expected=expected, got="others") from None
    except (OSError, ValueError, zipfile.BadZipFile, pa.ArrowException) as error:
        raise DataError(
            f"{path} cannot be read.",
            expected=f"Parquet with {ITEM_ID} and {VECTOR}, or an npz of arrays with these names",
            got=str(error).splitlines()[0][:200],
        ) from None
    widths = {len(cell) for cell in cells} if cells.dtype == object else {cells.shape[1]}
    if len(widths) > 1 or 0 in widths:
        raise DataError(
            f"The vectors in {path} are not of one width.", expected="one width above 0", got=f"widths {sorted(widths)}"
        )
    vectors = np.stack(list(cells)) if cells.dtype == object and len(cells) else cells
    return as_ids(pd.Series(ids, name=ITEM_ID), path), vectors.astype(np.float32)


def _parquet(path: Path) -> tuple[pd.Series, NDArray[Any]]:
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    for name in (ITEM_ID, VECTOR):
        if name not in table.column_names:
            raise KeyError(name)
    cells = table[VECTOR].to_pylist()
    rows = [np.asarray([] if cell is None else cell, dtype=np.float64) for cell in cells]
    same = len({len(row) for row in rows}) == 1
    vectors = np.stack(rows) if same else np.array(rows, dtype=object)
    return table[ITEM_ID].to_pandas(types_mapper=pd.ArrowDtype), vectors


def _npz(path: Path) -> tuple[pd.Series, NDArray[Any]]:
    with np.load(path, allow_pickle=False) as arrays:
        ids, vectors = arrays[ITEM_ID], arrays[VECTOR]
    if vectors.ndim != 2 or len(ids) != len(vectors):
        raise ValueError(f"arrays of shapes {ids.shape} and {vectors.shape}")
    return pd.Series(ids), vectors.astype(np.float64)


def _fitted(name: str, own: OwnVectorsConfig, vectors: NDArray[np.float32], rows: NDArray[np.int64]) -> Reducer:
    try:
        return fit_reducer(vectors, rows, min(own.reduce_dim, vectors.shape[1]), own.reducer)
    except ConfigError as error:
        raise ConfigError(
            f"knowledge.item_vectors.{name}.reduce_dim {own.reduce_dim} is too large for these vectors.",
            expected=error.expected,
            got=str(own.reduce_dim),
            fix="lower it, or bring vectors of more train items",
        ) from None


def _save_reducers(reducers: dict[str, Reducer], folder_path: Path) -> None:
    from safetensors.numpy import save_file

    arrays = {
        f"{name}.{part}": np.ascontiguousarray(getattr(reducer, part))
        for name, reducer in reducers.items()
        for part in ("mean", "components", "scale")
    }
    save_file(arrays, str(folder_path / REDUCERS_FILE))


def _load_reducers(folder_path: Path) -> dict[str, Reducer]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    path = folder_path / REDUCERS_FILE
    try:
        arrays = load_file(str(path))
        names = {key.rpartition(".")[0] for key in arrays}
        parts = ("mean", "components", "scale")
        return {name: Reducer(*(arrays[f"{name}.{part}"] for part in parts)) for name in names}
    except (OSError, KeyError, SafetensorError) as error:
        raise ArtifactError(f"{path} is not complete.", got=str(error), fix="lorefuse run") from None
