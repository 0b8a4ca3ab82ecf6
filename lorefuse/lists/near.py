"""The nearest vectors of each: by all cosines, or of large catalogues by those that an index finds.

Suffixes: ``A`` vectors that ask, ``B`` vectors that are found, ``E`` their width, ``P`` those of a batch, ``K`` found.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from lorefuse.core.progress import track
from lorefuse.retrieval.index import build_index, enough_probes

Vectors = NDArray[np.float32]
Search = Callable[[Vectors], tuple[NDArray[np.int64], Vectors]]
"""Vectors (P, E) → places and cosines of the nearest, (P, K) each."""
ROWS_PER_BATCH = 512
MAX_EXACT_VECTORS = 50_000
"""Among more an index searches: all cosines take a time that is quadratic in the catalogue."""
MIN_RECALL, NUM_TRIED = 0.9, 200
"""Share of the truly nearest that the index must find, of so many vectors."""


def nearest_vectors(
    from_AE: Vectors, to_BE: Vectors, num_neighbours: int, power: int, *, among_themselves: bool = False
) -> csr_array:
    """Return powers of the largest positive cosines of each row, (A, B); of one set of items none with itself.

    Args:
        from_AE: Of unit length, or zeros, which nothing is near to.
        to_BE: As above.
        num_neighbours: Most entries of a row.
        power: Of the cosines.
        among_themselves: Both sets are one.
    """
    kept = min(num_neighbours + among_themselves, len(to_BE))  # an item is the nearest to itself
    search = _exact(to_BE, kept) if len(to_BE) <= MAX_EXACT_VECTORS else _indexed(to_BE, kept)
    rows, columns, values = [], [], []
    for start in track(range(0, len(from_AE), ROWS_PER_BATCH), "Finding the nearest items"):
        numbers = np.arange(start, min(start + ROWS_PER_BATCH, len(from_AE)))
        near_PK, cosine_PK = search(from_AE[numbers])
        inside = cosine_PK > 0
        if among_themselves:
            inside &= near_PK != numbers[:, None]
        rows.append(np.repeat(numbers, inside.sum(1)))
        columns.append(near_PK[inside])
        values.append(cosine_PK[inside] ** power)
    if not rows:
        return csr_array((len(from_AE), len(to_BE)), dtype=np.float32)
    place = (np.concatenate(rows), np.concatenate(columns))
    return csr_array((np.concatenate(values).astype(np.float32), place), shape=(len(from_AE), len(to_BE)))


def _exact(to_BE: Vectors, num_kept: int) -> Search:
    def search(from_PE: Vectors) -> tuple[NDArray[np.int64], Vectors]:
        cosine_PB = from_PE @ to_BE.T
        near_PK = np.argpartition(-cosine_PB, num_kept - 1, axis=1)[:, :num_kept]
        return near_PK, np.take_along_axis(cosine_PB, near_PK, axis=1)

    return search


def _indexed(to_BE: Vectors, num_kept: int) -> Search:
    import faiss

    index = build_index(to_BE, None)
    tried = to_BE[np.linspace(0, len(to_BE) - 1, NUM_TRIED).round().astype(np.int64)]
    index.nprobe = enough_probes(index, to_BE, tried, num_kept, MIN_RECALL)
    faiss.omp_set_num_threads(faiss.omp_get_max_threads())

    def search(from_PE: Vectors) -> tuple[NDArray[np.int64], Vectors]:
        cosine_PK, near_PK = index.search(np.ascontiguousarray(from_PE), num_kept)
        return near_PK, np.where(near_PK >= 0, cosine_PK, 0)

    return search
