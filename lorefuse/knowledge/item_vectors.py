"""Item vectors of a split: text reduced and graph decomposed, both fitted on train items alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lorefuse.config import EmbeddingConfig, KnowledgeConfig
from lorefuse.core.errors import ArtifactError
from lorefuse.core.schema import CONTEXT_TEXT, GRAPH, ITEM_ID, SPLIT, TEXT, Split
from lorefuse.data.dataset import Dataset
from lorefuse.data.split import load_split
from lorefuse.knowledge.graph import item_graph_vectors
from lorefuse.knowledge.own_vectors import own_blocks
from lorefuse.training_set.vectors import ItemVectors


def build_item_vectors(
    dataset: Dataset,
    split_path: Path,
    embeddings_path: Path,
    embedding: EmbeddingConfig,
    knowledge: KnowledgeConfig,
    out_path: Path,
) -> dict[str, Any]:
    """Fit the reducer and the graph's components on train items and write the item vectors folder.

    Args:
        dataset: The dataset.
        split_path: Which rows are train.
        embeddings_path: Full text vectors.
        embedding: How many dimensions to keep.
        knowledge: Graph dimensions and link plausibility.
        out_path: Empty folder to fill.

    Returns:
        Dimensions by block, the widths of the text's facets, the graph's report and the data cutoff.

    Raises:
        LeakError: The text's encoder was fine-tuned on what this split holds back, or nothing that was written about
            users is of its train rows alone.
        ConfigError: There are too few different train items with text, or vectors, for that many dimensions.
        DataError: A file of vectors cannot be used, see `own_vectors.own_blocks`.
        ArtifactError: The embeddings folder is not whole.
    """
    from lorefuse.embedding.dtype_choice import pinned

    frame, split_facts = load_split(split_path)
    interactions = dataset.interactions()
    train_items = set(interactions[ITEM_ID].to_numpy()[(frame[SPLIT] == Split.TRAIN).to_numpy()])
    is_train = dataset.items()[ITEM_ID].isin(train_items).to_numpy()
    embedding = pinned(embedding, embeddings_path)
    text, text_facets = _text_vectors(dataset, split_path, embeddings_path, is_train, embedding, out_path)
    graph, _, report = item_graph_vectors(dataset, train_items, knowledge)
    own, own_report = own_blocks(dataset.items()[ITEM_ID].tolist(), is_train, knowledge, out_path)
    found = {name: vectors for name, vectors in ((TEXT, text), (GRAPH, graph)) if vectors.shape[1]} | own
    user_texts, users = _user_texts(dataset, split_path, embedding, out_path) if TEXT in found else ({}, {})
    facts = {
        "dims": {name: vectors.shape[1] for name, vectors in found.items()},
        "text_facets": text_facets,
        "reducer": embedding.reducer,
        "graph": report,
        "own": own_report,
        "users": users,
        "data_cutoff": split_facts["data_cutoff"],
    }
    ItemVectors(len(is_train), found, facts, **user_texts).save(out_path)
    return facts


def _user_texts(
    dataset: Dataset, split_path: Path, embedding: EmbeddingConfig, out_path: Path
) -> tuple[dict[str, NDArray[Any]], dict[str, int]]:
    """Return the arrays of profiles, of written knowledge about users and of what they asked, and some counts."""
    from lorefuse.embedding.reduce import Reducer
    from lorefuse.knowledge.profile import profile_texts, profile_vectors
    from lorefuse.knowledge.written_users import written_texts

    arrays: dict[str, NDArray[Any]] = {}
    counts: dict[str, int] = {}
    if embedding.profile_items:
        parts = load_split(split_path)[0]
        rows, texts = profile_texts(dataset, parts, embedding.profile_items, embedding.profile_prompt)
        arrays |= {"profile": profile_vectors(texts, embedding, Reducer.load(out_path)), "profile_row": rows}
    if embedding.written_users:
        rows, texts, num_left_out = written_texts(dataset, split_path, Path(embedding.written_users).expanduser())
        arrays |= {"written": profile_vectors(texts, embedding, Reducer.load(out_path)), "written_row": rows}
        counts = {"num_written": len(texts), "num_left_out": num_left_out}
    asked = dataset.row_texts(CONTEXT_TEXT)
    if asked is not None:
        distinct = {"": 0} | {text: number for number, text in enumerate(dict.fromkeys(filter(None, asked)), start=1)}
        arrays["context"] = profile_vectors(list(distinct), embedding, Reducer.load(out_path))
        arrays["context_row"] = np.array([distinct[text] for text in asked], dtype=np.int64)
        counts |= {"num_contexts": len(distinct) - 1}
    return arrays, counts


def _text_vectors(
    dataset: Dataset,
    split_path: Path,
    embeddings_path: Path,
    is_train: NDArray[np.bool_],
    embedding: EmbeddingConfig,
    out_path: Path,
) -> tuple[NDArray[np.float32], dict[str, int]]:
    """Return reduced text (N, E) and the width of each facet in it; save the reducer."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    from lorefuse.embedding import dtype_choice, embed
    from lorefuse.embedding.consumption import co_consumption, liked_rows
    from lorefuse.embedding.provenance import check_no_leak
    from lorefuse.embedding.reduce import fit_text_reducer
    from lorefuse.knowledge.reviews import fill_review_facets

    try:
        arrays = load_file(str(embeddings_path / embed.ARRAYS_FILE))
        facts_path = embeddings_path / dtype_choice.FACTS_FILE
        seen_until = json.loads(facts_path.read_text("utf-8")).get("data_cutoff") if facts_path.exists() else None
        full, has_text = arrays["full"], arrays["has_text"]
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise ArtifactError(f"{embeddings_path} holds no complete embeddings.", got=str(error)) from None
    check_no_leak(
        seen_until,
        arrays.get("fitted", np.zeros(len(full), dtype=bool)),
        is_train=is_train,
        split_cutoff=load_split(split_path)[1]["data_cutoff"],
        item_ids=dataset.items()[ITEM_ID].tolist(),
    )
    has_facet = arrays.get("has_facet", has_text[:, None])
    full, has_facet = fill_review_facets(full, has_facet, dataset, load_split(split_path)[0], embedding)
    has_text = np.asarray(has_facet.any(axis=1))
    if not has_text.any():
        return np.zeros((len(full), 0), dtype=np.float32), {}
    target = None
    if embedding.reducer == "supervised":
        target = co_consumption(liked_rows(dataset, split_path), embedding.reduce_dim)
    reducer, text_facets = fit_text_reducer(full, has_facet, is_train, embedding, target)
    reducer.save(out_path)
    return reducer.transform(full, has_text), text_facets
