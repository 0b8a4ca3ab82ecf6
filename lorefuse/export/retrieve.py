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
_LINKED = (*b.RETRIEVAL_FILES[:2], b.TABLES_FILE)


def write_retrieve(bundle: Bundle, path: Path) -> None:
    """Fill a version folder.

    Args:
        bundle: One that retrieves.
        path: Empty folder.
    """
    copy_template(s.RETRIEVE, path)
    graph = b.CANDIDATE_RANKER_FILE if b.CANDIDATE_RANKER_FILE in bundle.sha256 else b.RANKER_FILE
    for name in (*_LINKED, graph):
        link_or_copy(bundle.path / name, path / name)
    item_ids, _ = bundle.catalogue()
    facts = {**bundle.read_json(b.RETRIEVAL_FILE), "num_returned": bundle.config().serving.max_k, "item_ids": item_ids}
    write_json(path / b.RETRIEVAL_FILE, facts)
