"""Add items to a model version without training: they are embedded, and the catalogue's graph is exported anew.

Past one graph they join the index instead; how a version finds its items does not change as it grows.

An item that training has not seen scores from its words, categories and the prior of its text; nothing that
the version said about its other items changes.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lorefuse.core.atomic import sha256_file, sha256_json, write_json
from lorefuse.core.errors import ArtifactError, UsageError
from lorefuse.core.schema import ITEM_ID, TEXT, Tensor, item_block
from lorefuse.data.dataset import Dataset
from lorefuse.export.bundle import (
    BUNDLE_FILE,
    CATALOGUE_RANKER_FILE,
    CATALOGUE_REFERENCE_FILE,
    EMBEDDING_FILE,
    RETRIEVAL_FILE,
    RETRIEVAL_FILES,
    SERVING_FILE,
    TABLES_FILE,
    Bundle,
)
from lorefuse.export.catalogue import CATALOGUE_FILE, catalogue_frame
from lorefuse.lists.stage_files import CANDIDATES_FILES
from lorefuse.training_set.spec import FeatureSpec

if TYPE_CHECKING:
    import pandas as pd

_MADE_ANEW = (
    TABLES_FILE, CATALOGUE_FILE, CATALOGUE_RANKER_FILE, CATALOGUE_REFERENCE_FILE, SERVING_FILE,
    *RETRIEVAL_FILES, *CANDIDATES_FILES,
)  # fmt: skip


def grow_bundle(bundle: Bundle, dataset: Dataset, out_path: Path) -> dict[str, Any]:
    """Write a bundle whose catalogue holds the dataset's new items too, after the ones it held before.

    Args:
        bundle: The version to grow; weights, vocabularies and features stay.
        dataset: A later state of the dataset that it was made from; only its items are read.
        out_path: Folder to fill; the caller makes it appear atomically.

    Returns:
        num_items, num_new and the parity report of the new graph.

    Raises:
        UsageError: There is no new item, or the model reads texts that a language model has to write first.
        ArtifactError: The encoder is not the one of the version, the new graph differs from torch, or the grown index
            finds too little.
    """
    known, _ = bundle.catalogue()
    items = dataset.items()
    new = items[~items[ITEM_ID].astype(str).isin(set(known))].reset_index(drop=True)
    if new.empty:
        raise UsageError(
            "There is no new item.",
            expected="items that the served catalogue does not hold",
            got=f"{len(items)} items, all of them known",
            fix="add them to the items file of the preset",
        )
    tables = bundle.arrays(TABLES_FILE)
    added = item_rows(bundle, new, dataset.roles.item_text)
    grown = {name: np.ascontiguousarray(np.concatenate([table, added[name]])) for name, table in tables.items()}
    for name in bundle.sha256:
        if name not in _MADE_ANEW:
            shutil.copyfile(bundle.path / name, out_path / name)
    _write_catalogue(bundle, dataset, new, out_path)
    _write_tables(grown, out_path)
    facts = bundle.read_json(SERVING_FILE)
    write_json(out_path / SERVING_FILE, {**facts, "num_items": len(known) + len(new)})
    join = _blend if bundle.blends else _index if bundle.retrieves else _export
    parity = join(bundle, grown, out_path)
    content = bundle.read_json(BUNDLE_FILE)
    files = sorted(path for path in out_path.iterdir() if path.is_file() and not path.name.startswith("."))
    content |= {
        "sha256": {file.name: sha256_file(file) for file in files if file.name != BUNDLE_FILE},
        "parity": {**content["parity"], **parity},
        "grown_from": bundle.digest,
    }
    write_json(out_path / BUNDLE_FILE, content)
    return {"num_items": len(known) + len(new), "num_new": len(new), **parity}


def item_rows(
    bundle: Bundle, items: pd.DataFrame, text_columns: tuple[str, ...] | list[str]
) -> dict[str, NDArray[Any]]:
    """Return the item tensors of items without history, by name; those of width 0 are left out.

    Args:
        bundle: Vocabularies, reducers and prior of the version; its configuration names files of vectors.
        items: One row per item, with the columns of the dataset's items.
        text_columns: Columns that make the text where the configuration names no facets.
    """
    from lorefuse.features.prior import ItemPrior
    from lorefuse.features.rows import item_columns
    from lorefuse.features.vocabulary import encode_lists, load_vocabularies
    from lorefuse.knowledge.own_vectors import more_items

    spec, vocabularies = bundle.spec(), load_vocabularies(bundle.path)
    columns = [vocabularies[field.name].encode(items[field.name].astype(str)) for field in spec.item_fields]
    fields = np.stack(columns, axis=1).astype(np.int64)
    blocks = [encode_lists(vocabularies[f.name], items[f.name], f.width) for f in spec.item_multi_fields]
    multi = np.hstack(blocks).astype(np.int64) if blocks else np.zeros((len(items), 0), dtype=np.int64)
    knowledge = unknown_items(spec, len(items))
    if TEXT in knowledge:
        knowledge[TEXT] = _text_vectors(bundle, items, text_columns)
    knowledge |= more_items(items[ITEM_ID].astype(str).tolist(), bundle.config().knowledge, bundle.path)
    prior = ItemPrior.load(bundle.path).predict(item_columns(knowledge, fields, multi, spec))
    known = bundle.read_json(SERVING_FILE)["item_without_history"]
    numeric = np.array(
        [[({**known, "item_prior": value})[name] for name in spec.item_numeric] for value in prior], dtype=np.float32
    ).reshape(len(items), len(spec.item_numeric))
    tensors: dict[str, NDArray[Any]] = {
        Tensor.ITEM_FIELDS: fields,
        Tensor.ITEM_MULTI: multi,
        Tensor.ITEM_NUMERIC: numeric,
        **{item_block(name): vectors for name, vectors in knowledge.items()},
    }
    return {name: tensors[name] for name in spec.item_tensors}


def unknown_items(spec: FeatureSpec, num_items: int) -> dict[str, NDArray[np.float32]]:
    """Return knowledge blocks of items of which nothing is known: zeros, (num_items, E) each, by name."""
    return {block.name: np.zeros((num_items, block.dim), dtype=np.float32) for block in spec.knowledge}


def _text_vectors(
    bundle: Bundle, items: pd.DataFrame, text_columns: tuple[str, ...] | list[str]
) -> NDArray[np.float32]:
    from lorefuse.embedding.embed import embed_texts
    from lorefuse.embedding.facets import facets_of
    from lorefuse.embedding.fingerprint import space_of
    from lorefuse.embedding.prompt import item_texts
    from lorefuse.embedding.reduce import Reducer

    config = bundle.config().embedding
    if config.written:
        raise UsageError(
            "The model reads texts that a language model wrote; the new items have none.",
            fix="lorefuse enrich, then train again: lorefuse run",
        )
    facts, address = bundle.read_json(EMBEDDING_FILE), sha256_json(space_of(config))
    if address != facts["address"]:
        raise ArtifactError(
            "The encoder is not the one this model was trained with.",
            expected=f"address {facts['address'][:12]}",
            got=f"address {address[:12]}",
            fix="bring the encoder's old revision back, or train again: lorefuse run",
        )
    vectors, has_text = [], np.zeros(len(items), dtype=bool)
    for facet in facets_of(config, tuple(text_columns)):
        texts = item_texts(items, facet.columns, facet.config.prompt)
        vectors.append(embed_texts(texts, facet.config)[0])
        has_text |= np.array([bool(text) for text in texts])
    return Reducer.load(bundle.path).transform(np.hstack(vectors), has_text)


def _write_catalogue(bundle: Bundle, dataset: Dataset, new: pd.DataFrame, out_path: Path) -> None:
    import pandas as pd

    old = pd.read_parquet(bundle.path / CATALOGUE_FILE)
    rows = catalogue_frame(new, dataset.roles, first_row=len(old))
    pd.concat([old, rows.reindex(columns=old.columns)], ignore_index=True).to_parquet(
        out_path / CATALOGUE_FILE, index=False
    )


def _write_tables(tables: dict[str, NDArray[Any]], out_path: Path) -> None:
    from safetensors.numpy import save_file

    save_file(tables, str(out_path / TABLES_FILE))


def _blend(bundle: Bundle, tables: dict[str, NDArray[Any]], out_path: Path) -> dict[str, Any]:
    """Give the new items a place in the tables of the candidate stage, and answer the references anew."""
    from safetensors.numpy import save_file

    from lorefuse.export.stages import OnnxStages
    from lorefuse.lists.grow import grown_stages
    from lorefuse.lists.stage_files import load_stages, save_stages

    fitted = load_stages(bundle.path)
    known = [tables[name] for name in bundle.spec().knowledge_tensors]
    num_items = len(next(iter(tables.values())))
    save_stages(grown_stages(fitted, known, num_items, bundle.config().candidates), out_path)
    users = bundle.arrays(CATALOGUE_REFERENCE_FILE)
    for name in (Tensor.CATALOGUE_ROW.value, Tensor.SCORE.value):
        users.pop(name)
    save_file({**users, **OnnxStages(out_path).answer(users)}, str(out_path / CATALOGUE_REFERENCE_FILE))
    return {"num_items": num_items}


def _export(bundle: Bundle, tables: dict[str, NDArray[Any]], out_path: Path) -> dict[str, Any]:
    """Export the grown catalogue's graph and its reference answers, and hold it to torch."""
    import torch
    from safetensors.numpy import save_file

    from lorefuse.export.onnx import CatalogueGraph, export_catalogue_ranker
    from lorefuse.export.parity import check_catalogue_ranker
    from lorefuse.models.build import load_ranker

    ranker = load_ranker(bundle.path)
    catalogue = {name: torch.from_numpy(table) for name, table in tables.items()}
    num_items = len(next(iter(tables.values())))
    users = bundle.arrays(CATALOGUE_REFERENCE_FILE)
    for name in (Tensor.CATALOGUE_ROW.value, Tensor.SCORE.value):
        users.pop(name)
    max_k = bundle.config().serving.max_k
    graph = CatalogueGraph(ranker, catalogue, min(max_k, num_items)).eval()
    inputs = {name: torch.from_numpy(array) for name, array in users.items()}
    export_catalogue_ranker(graph, inputs, out_path / CATALOGUE_RANKER_FILE)
    report = check_catalogue_ranker(out_path / CATALOGUE_RANKER_FILE, ranker, catalogue, users)
    with torch.no_grad():
        rows, scores = graph(*(inputs[name] for name in graph.input_names))
    ranked = {Tensor.CATALOGUE_ROW.value: rows.numpy(), Tensor.SCORE.value: scores.numpy()}
    save_file({**users, **ranked}, str(out_path / CATALOGUE_REFERENCE_FILE))
    return dict(report)


def _index(bundle: Bundle, tables: dict[str, NDArray[Any]], out_path: Path) -> dict[str, Any]:
    """Add the new items to towers and index, and answer the references anew."""
    import torch
    from safetensors.numpy import save_file

    from lorefuse.export.retrieval import hold_recall, num_ranked, retrieve_and_rank
    from lorefuse.models.build import load_ranker
    from lorefuse.retrieval.index import add_items, load_index, save_index
    from lorefuse.retrieval.vectors import TowerArrays, recency

    serving, facts = bundle.config().serving, bundle.read_json(RETRIEVAL_FILE)
    arrays, index = TowerArrays.load(bundle.path), load_index(bundle.path)
    num_known, num_items = len(arrays.item_vectors), len(next(iter(tables.values())))
    arrays = arrays.grown(tables, num_known)
    add_items(index, arrays.item_vectors[num_known:])
    users = bundle.arrays(CATALOGUE_REFERENCE_FILE)
    for name in (Tensor.CATALOGUE_ROW.value, Tensor.SCORE.value):
        users.pop(name)
    liked = users[Tensor.LIKED_ROWS.value]
    weights = np.broadcast_to(recency(liked.shape[1], facts["half_life"]), liked.shape)
    vectors = arrays.users(users[Tensor.USER_FIELDS.value], liked, weights)
    num_retrieved, min_recall = num_ranked(serving, num_items), serving.retrieval.min_recall
    held = hold_recall(index, arrays, vectors, num_retrieved, facts["num_probes"], min_recall)
    facts = {**facts, **held, "num_items": num_items}
    catalogue = {name: torch.from_numpy(table) for name, table in tables.items()}
    ranked = retrieve_and_rank(load_ranker(bundle.path), catalogue, arrays, index, users, facts, serving.max_k)
    save_file({**users, **ranked}, str(out_path / CATALOGUE_REFERENCE_FILE))
    arrays.save(out_path)
    save_index(index, out_path)
    write_json(out_path / RETRIEVAL_FILE, facts)
    return facts
