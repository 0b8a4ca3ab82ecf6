"""Item vectors from a knowledge graph: by default a truncated SVD of the weighted item-entity matrix.

Each item is described by the nodes around its entity, one column per (relation, direction, node), weighted by TF-IDF
and decomposed as in latent semantic analysis (Deerwester et al., JASIS 1990). Other methods train entity vectors on
the triples (`knowledge.graph_training`). Nothing of the interactions enters any of them: triples are knowledge from
outside and have no time. What is a statistic of the items (weights, components, means) is fitted on train items.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from lorefuse.config import KnowledgeConfig
from lorefuse.core.schema import ENTITY_ID, HEAD, ITEM_ID, RELATION, TAIL
from lorefuse.data.dataset import Dataset
from lorefuse.knowledge.plausibility import category_sets, link_z_score

MIN_ITEMS_PER_COLUMN = 2
_log = logging.getLogger(__name__)


def item_graph_vectors(
    dataset: Dataset, train_item_ids: set[str], config: KnowledgeConfig
) -> tuple[NDArray[np.float32], NDArray[np.bool_], dict[str, Any]]:
    """Return one unit vector per item.

    Args:
        dataset: The dataset; its triples and links may be missing.
        train_item_ids: Items with a train row; weights and components are fitted on these alone.
        config: Method, dimensions, and how plausible the links must be.

    Returns:
        Vectors of shape (N, G), zeros where an item has no entity; a mask (N,) of the items that have one; a report.
        G is 0 where the dataset has no graph, or where its links are refused as implausible. The report of a trained
        method holds its filtered link prediction (MRR, Hits@10) on held-out triples.
    """
    items, triples, links = dataset.items(), dataset.triples(), dataset.links()
    nothing = np.zeros((len(items), 0), dtype=np.float32), np.zeros(len(items), dtype=bool)
    if triples is None or links is None or links.empty:
        return *nothing, {"used": False, "reason": "the dataset has no graph"}
    links = links.drop_duplicates(ITEM_ID)
    counts = neighbourhoods(links[ENTITY_ID], triples)
    roles = dataset.roles
    categories = category_sets(items, roles.item_categories, roles.item_multi_categories).loc[links[ITEM_ID]]
    z_score = link_z_score(categories, _unit_rows(counts))
    report: dict[str, Any] = {"num_linked_items": len(links), "num_items": len(items), "link_z": round(z_score, 2)}
    can_be_checked = bool(roles.item_categories or roles.item_multi_categories)
    if not can_be_checked:
        report["link_z"] = None
        _log.warning("the graph's links cannot be checked: the items have no categories to compare them with")
    elif z_score < config.min_link_z:
        reason = f"links look random: z = {z_score:.1f}, below knowledge.min_link_z = {config.min_link_z}"
        _log.warning("the knowledge graph is not used: %s", reason)
        return *nothing, {**report, "used": False, "reason": reason}
    is_train = links[ITEM_ID].isin(train_item_ids).to_numpy()
    if config.method == "svd":
        vectors, explained = _decompose(counts, is_train, config.graph_dim)
        made: dict[str, Any] = {"explained_variance": explained}
    else:
        vectors, prediction = _embed(links[ENTITY_ID], triples, is_train, config)
        made = {"link_prediction": prediction}
    position = pd.Series(np.arange(len(items)), index=items[ITEM_ID]).loc[links[ITEM_ID]].to_numpy()
    full, has_graph = np.zeros((len(items), vectors.shape[1]), dtype=np.float32), np.zeros(len(items), dtype=bool)
    full[position], has_graph[position] = vectors, np.abs(vectors).sum(1) > 0
    return full, has_graph, {**report, "used": True, "method": config.method, "graph_dim": vectors.shape[1], **made}


def neighbourhoods(entities: pd.Series, triples: pd.DataFrame) -> csr_matrix:
    """Count the nodes around each entity: rows follow `entities`, columns are (relation, direction, node)."""
    row_of = pd.DataFrame({"entity": entities.to_numpy(), "row": np.arange(len(entities))})
    sides = [
        triples.rename(columns={HEAD: "entity", TAIL: "node"}).assign(direction=">"),
        triples.rename(columns={TAIL: "entity", HEAD: "node"}).assign(direction="<"),
    ]
    edges = pd.concat(sides).merge(row_of, on="entity")
    names = edges[RELATION] + edges["direction"] + edges["node"]
    columns, labels = pd.factorize(names, sort=True)
    shape = (len(entities), len(labels))
    return csr_matrix((np.ones(len(edges)), (edges["row"].to_numpy(), columns)), shape=shape)


def _embed(
    entities: pd.Series, triples: pd.DataFrame, is_train: NDArray[np.bool_], config: KnowledgeConfig
) -> tuple[NDArray[np.float32], dict[str, Any]]:
    """Train entity vectors on the triples and give each item its entity's; zeros for an entity in no triple."""
    from lorefuse.knowledge.aggregation import aggregated_vectors
    from lorefuse.knowledge.graph_training import train_graph
    from lorefuse.knowledge.translation import TransR
    from lorefuse.knowledge.triples import IndexedTriples

    graph = IndexedTriples.of(triples)
    rows = graph.rows_of(entities)
    known = rows >= 0
    if not (known & is_train).any():
        return np.zeros((len(rows), 0), dtype=np.float32), {"mrr": None, "hits_at_10": None, "num_ranked": 0}
    model, prediction = train_graph(graph, config)
    if isinstance(model, TransR):
        table = aggregated_vectors(model, graph, config.num_hops, config.aggregator)
    else:
        table = model.table()
    vectors = np.where(known[:, None], table[rows], 0).astype(np.float64)
    if vectors.shape[1] > config.graph_dim:
        vectors = _principal(vectors, is_train & known, config.graph_dim)
    return _centred_unit(vectors, is_train & known, known), prediction


def _principal(vectors: NDArray[np.float64], fit_rows: NDArray[np.bool_], dim: int) -> NDArray[np.float64]:
    """Keep the directions in which the train items differ most; fewer where there are fewer items than `dim`."""
    centred = vectors - vectors[fit_rows].mean(0)
    _, _, components = np.linalg.svd(centred[fit_rows], full_matrices=False)
    components = components[:dim]
    largest = components[np.arange(len(components)), np.abs(components).argmax(1)]
    return np.asarray(centred @ (components * np.sign(largest)[:, None]).T)


def _decompose(counts: csr_matrix, is_train: NDArray[np.bool_], dim: int) -> tuple[NDArray[np.float32], float]:
    """Weight, reduce and scale to unit length; fitted on train rows only."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfTransformer

    common = np.asarray((counts[is_train] > 0).sum(0)).ravel() >= MIN_ITEMS_PER_COLUMN
    counts = counts[:, common]
    dim = min(dim, counts.shape[1] - 1, int(is_train.sum()) - 1)
    if dim < 1:
        return np.zeros((counts.shape[0], 0), dtype=np.float32), 0.0
    weights = TfidfTransformer(sublinear_tf=True).fit(counts[is_train])
    svd = TruncatedSVD(dim, algorithm="arpack", random_state=0).fit(weights.transform(counts[is_train]))
    # A component's sign is arbitrary: make its largest loading positive, so that a rerun gives the same vectors.
    loadings = svd.components_[np.arange(dim), np.abs(svd.components_).argmax(1)]
    vectors = svd.transform(weights.transform(counts)) * np.sign(loadings)
    known = np.abs(vectors).sum(1) > 1e-9
    explained = round(float(svd.explained_variance_ratio_.sum()), 4)
    return _centred_unit(vectors, is_train & known, known), explained


def _centred_unit(
    vectors: NDArray[np.float64], fit_rows: NDArray[np.bool_], known: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Take the train items' mean off and scale to unit length.

    Without the mean, which all entities share, a dot product says what two items have in common beyond being items.
    An entity of which nothing is known stays at zero: it must not look like the opposite of the mean.
    """
    vectors = np.where(known[:, None], vectors - vectors[fit_rows].mean(0), 0)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 1e-9)
    result: NDArray[np.float32] = unit.astype(np.float32)
    return result


def _unit_rows(counts: csr_matrix) -> csr_matrix:
    from sklearn.preprocessing import normalize

    return normalize(counts)
