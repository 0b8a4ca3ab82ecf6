"""A bundle of a catalogue past one graph → the version folder of the model `retrieve`."""

from __future__ import annotations

from pathlib import Path

from lorefuse.atomic import write_json
from lorefuse.export import bundle as b
from lorefuse.export import signature as s
from lorefuse.export.bundle import Bundle
from lorefuse.export.templates import copy_template, link_or_copy

LIKED_ROWS = "liked_rows"
"""Name in the reference file: catalogue rows of what the reference users like, newest first, -1 is padding."""
_LINKED = b.RETRIEVAL_FILES[:2]


def write_retrieve(bundle: Bundle, path: Path) -> None:
    """Fill a version folder.

    Args:
        bundle: One that retrieves.
        path: Empty folder.
    """
    copy_template(s.RETRIEVE, path)
    whole = b.CANDIDATE_RANKER_FILE in bundle.sha256
    for name in (*_LINKED, *((b.CANDIDATE_RANKER_FILE,) if whole else (b.RANKER_FILE, b.TABLES_FILE))):
        link_or_copy(bundle.path / name, path / name)
    if whole:
        from lorefuse.export.candidates import ITEM_SIDE_FILE, write_item_side

        write_item_side(bundle.path / b.ITEM_SIDE_GRAPH_FILE, bundle.arrays(b.TABLES_FILE), path / ITEM_SIDE_FILE)
    item_ids, _ = bundle.catalogue()
    facts = {**bundle.read_json(b.RETRIEVAL_FILE), "num_returned": bundle.config().serving.max_k, "item_ids": item_ids}
    write_json(path / b.RETRIEVAL_FILE, facts)
