"""An index of item vectors that finds the nearest to a user without looking at all of them, and how much it finds.

faiss's inverted file: items lie in the cells of a k-means partition, and a search reads the cells nearest to the user.
Why this one: docs/decisions/0005-ann-index.md. Suffixes: ``N`` items, ``U`` users, ``D`` embedding width.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lorefuse.core.errors import ArtifactError
from lorefuse.retrieval.vectors import Floats, unit

INDEX_FILE = "items.faiss"
ITEMS_PER_ADD, VECTORS_PER_LIST = 100_000, 64
MAX_RECALL_OF_HALVES = 0.99
"""Items at the edge of what is found change places in 16 bits: with all cells read, 0.998 of 500 remain."""
SHORT_CUT = 100
"""Recall is also reported at this cut, or at the number retrieved where that is smaller."""


def build_index(item_vectors_ND: Floats, num_lists: int | None, seed: int = 0, *, min_recall: float = 0.95) -> Any:
    """Return an index of items by the cosine with their vectors; entry n is item n.

    Args:
        item_vectors_ND: Of any length.
        num_lists: Cells; None: the power of two nearest to 2·√N. Never more than N / 39, faiss's own bound.
        seed: Of the partition. The same vectors and seed give the same index.
        min_recall: What a search is to reach. Up to `MAX_RECALL_OF_HALVES` vectors are held in 16 bits, which takes 0.7
            of the time of a search; where more is asked, in 32.
    """
    import faiss

    num_items, dim = item_vectors_ND.shape
    wanted = num_lists or int(2 ** np.round(np.log2(2 * num_items**0.5)))
    num_cells = max(1, min(wanted, num_items // 39))
    faiss.omp_set_num_threads(1)
    untyped: Any = faiss  # its type stubs do not know all of it
    place = (faiss.IndexFlatIP(dim), dim, num_cells)
    if min_recall > MAX_RECALL_OF_HALVES:
        index = untyped.IndexIVFFlat(*place, faiss.METRIC_INNER_PRODUCT)
    else:
        bits = faiss.ScalarQuantizer.QT_fp16
        index = untyped.IndexIVFScalarQuantizer(*place, bits, faiss.METRIC_INNER_PRODUCT, False)
    index.cp.seed, index.cp.spherical = seed, True
    sample = np.random.default_rng(seed).permutation(num_items)[: VECTORS_PER_LIST * num_cells]
    index.train(unit(item_vectors_ND[np.sort(sample)]))
    add_items(index, item_vectors_ND)
    return index


def add_items(index: Any, item_vectors_ND: Floats) -> None:
    """Add items at the end of an index."""
    from lorefuse.core.progress import track

    starts = range(0, len(item_vectors_ND), ITEMS_PER_ADD)
    for start in track(starts, "Indexing items"):
        index.add(unit(item_vectors_ND[start : start + ITEMS_PER_ADD]))


def save_index(index: Any, folder_path: Path) -> None:
    """Write `items.faiss`, faiss's own format, which holds numbers and no code."""
    import faiss

    faiss.write_index(index, str(folder_path / INDEX_FILE))


def load_index(folder_path: Path) -> Any:
    """Read `items.faiss`.

    Raises:
        ArtifactError: It is missing or not a whole index.
    """
    import faiss

    path = folder_path / INDEX_FILE
    try:
        return faiss.read_index(str(path))
    except RuntimeError as error:
        raise ArtifactError(f"{path} is not a whole index.", got=str(error)[-200:], fix="lorefuse run") from None


def measure_recall(
    index: Any, item_vectors_ND: Floats, user_vectors_UD: Floats, num_retrieved: int, num_probes: int
) -> dict[str, float]:
    """Compare searches with exact ones.

    Args:
        index: Of these items.
        item_vectors_ND: Of any length.
        user_vectors_UD: Of unit length.
        num_retrieved: Items per search.
        num_probes: Cells that a search reads.

    Returns:
        ``recall_at_<n>`` for `num_retrieved` and for 100: the share of the exact nearest n that are among the found n.
    """
    import faiss

    num_retrieved = min(num_retrieved, len(item_vectors_ND))
    _, exact = faiss.knn(user_vectors_UD, unit(item_vectors_ND), num_retrieved, metric=faiss.METRIC_INNER_PRODUCT)
    untyped: Any = faiss  # its type stubs know no keywords
    parameters = untyped.SearchParametersIVF(nprobe=min(num_probes, index.nlist))
    _, found = index.search(user_vectors_UD, num_retrieved, params=parameters)
    cuts = sorted({num_retrieved, min(SHORT_CUT, num_retrieved)})
    return {f"recall_at_{cut}": _overlap(exact[:, :cut], found[:, :cut]) for cut in cuts}


def enough_probes(
    index: Any, item_vectors_ND: Floats, user_vectors_UD: Floats, num_retrieved: int, min_recall: float
) -> int:
    """Return the smallest power of two of cells to read that reaches a recall; all cells always do."""
    probes = 1
    while probes < index.nlist:
        figures = measure_recall(index, item_vectors_ND, user_vectors_UD, num_retrieved, probes)
        if figures[f"recall_at_{min(num_retrieved, len(item_vectors_ND))}"] >= min_recall:
            break
        probes *= 2
    return min(probes, int(index.nlist))


def _overlap(exact_UK: NDArray[np.integer], found_UK: NDArray[np.integer]) -> float:
    hits = [len(np.intersect1d(want, got)) for want, got in zip(exact_UK, found_UK, strict=True)]
    return float(np.mean(hits) / exact_UK.shape[1])


def search(
    index: Any, user_vector_D: Floats, excluded_N: NDArray[np.bool_], num_retrieved: int, num_probes: int
) -> NDArray[np.int64]:
    """Return the rows of the nearest items that may be shown, lowest row first; `retrieve` in Triton does the same.

    Args:
        index: Of N items.
        user_vector_D: Of unit length.
        excluded_N: Rows that may not be returned.
        num_retrieved: Most rows. Where no more are left over, they are returned without a search.
        num_probes: Cells that a search reads where nothing is excluded; the more is, the more cells are read.
    """
    import faiss

    untyped: Any = faiss  # its type stubs know no keywords
    num_left = int(len(excluded_N) - excluded_N.sum())
    if num_left <= num_retrieved:
        return np.flatnonzero(~excluded_N)
    bits = np.packbits(~excluded_N, bitorder="little")
    selector = untyped.IDSelectorBitmap(bits) if num_left < len(excluded_N) else None
    probes = -(-num_probes * len(excluded_N) // num_left)
    while True:
        parameters = untyped.SearchParametersIVF(nprobe=min(probes, index.nlist), sel=selector)
        _, found = index.search(user_vector_D[None], num_retrieved, params=parameters)
        rows = found[0][found[0] >= 0]
        if len(rows) == num_retrieved or probes >= index.nlist:
            return np.sort(rows)
        probes *= 2
