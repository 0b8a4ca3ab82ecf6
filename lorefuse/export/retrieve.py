"""A bundle of a catalogue past one graph → the version folder of the model `retrieve`."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lorefuse.core.atomic import write_json
from lorefuse.export.bundle import (
    CANDIDATE_RANKER_FILE,
    ITEM_SIDE_GRAPH_FILE,
    RANKER_FILE,
    RETRIEVAL_FILE,
    RETRIEVAL_FILES,
    TABLES_FILE,
    Bundle,
    graph_file,
)
from lorefuse.export.session import open_session
from lorefuse.export.signature import RETRIEVE
from lorefuse.export.templates import copy_template, link_or_copy
from lorefuse.lists import two_stage
from lorefuse.lists.stage_files import CANDIDATES_ARRAYS_FILE, CANDIDATES_FILE
from lorefuse.lists.two_stage import encoder_names

ITEM_SIDE, ITEM_SIDE_FILE = "item_side", "item_side.npy"
"""What items add to scores on their own, float32 (N, W): name of the table, and its file in a version folder."""
STAGE_CODE_FILE = "two_stage.py"
_LINKED = RETRIEVAL_FILES[:2]
_ITEMS_PER_RUN = 16384


def write_retrieve(bundle: Bundle, path: Path) -> None:
    """Fill a version folder.

    Args:
        bundle: One that retrieves.
        path: Empty folder.
    """
    copy_template(RETRIEVE, path)
    if bundle.blends:
        _write_stages(bundle, path)
        return
    whole = CANDIDATE_RANKER_FILE in bundle.sha256
    for name in (*_LINKED, *((CANDIDATE_RANKER_FILE,) if whole else (RANKER_FILE, TABLES_FILE))):
        link_or_copy(bundle.path / name, path / name)
    if whole:
        write_item_side(bundle.path / ITEM_SIDE_GRAPH_FILE, bundle.arrays(TABLES_FILE), path / ITEM_SIDE_FILE)
    facts = {**bundle.read_json(RETRIEVAL_FILE), "num_returned": bundle.config().serving.max_k}
    write_json(path / RETRIEVAL_FILE, facts)


def _write_stages(bundle: Bundle, path: Path) -> None:
    """Fill the folder of a version whose candidates views find."""
    copy_stage_code(path)
    facts = bundle.read_json(CANDIDATES_FILE)
    graphs = [graph_file(name) for name in encoder_names(facts)]
    for name in (CANDIDATES_ARRAYS_FILE, CANDIDATE_RANKER_FILE, *graphs):
        link_or_copy(bundle.path / name, path / name)
    write_item_side(bundle.path / ITEM_SIDE_GRAPH_FILE, bundle.arrays(TABLES_FILE), path / ITEM_SIDE_FILE)
    write_json(path / CANDIDATES_FILE, facts)


def copy_stage_code(path: Path) -> None:
    """Copy the code of both stages, the very file that judged the lists, into a version folder."""
    shutil.copyfile(two_stage.__file__, path / STAGE_CODE_FILE)


def write_item_side(graph_path: Path, tables: Mapping[str, NDArray[Any]], path: Path) -> None:
    """Write the table of all items as an .npy file; it is never in memory as a whole.

    Args:
        graph_path: What `candidates.export_candidates` wrote to make it.
        tables: Item tensors of the whole catalogue, by name.
        path: File to write.

    Raises:
        ArtifactError: The graph is not whole.
    """
    session, num_items = open_session(graph_path), len(next(iter(tables.values())))
    names = [tensor.name for tensor in session.get_inputs()]
    width = session.get_outputs()[0].shape[1]
    table = np.lib.format.open_memmap(path, "w+", np.float32, (num_items, width))
    for start in range(0, num_items, _ITEMS_PER_RUN):
        rows = slice(start, start + _ITEMS_PER_RUN)
        (table[rows],) = session.run([ITEM_SIDE], {name: tables[name][rows] for name in names})
    table.flush()
