"""Train a graph embedding on triples against corrupted ones, and rank held-out triples against all entities."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from lorefuse.config import KnowledgeConfig
from lorefuse.core.progress import track
from lorefuse.cpu.allocator import keep_freed_memory
from lorefuse.cpu.threads import torch_threads
from lorefuse.knowledge.translation import RotatE, TransE, Translation, TransR
from lorefuse.knowledge.triples import IndexedTriples, hold_out

FAMILIES: dict[str, type[Translation]] = {"transe": TransE, "rotate": RotatE, "kgat": TransR}
MAX_RANKED = 500
"""Held-out triples that are ranked; each is ranked twice, for its tail and for its head."""
_MAX_DISTANCES = 1 << 24
_log = logging.getLogger(__name__)


def train_graph(triples: IndexedTriples, config: KnowledgeConfig) -> tuple[Translation, dict[str, Any]]:
    """Train the embedding that `config.method` asks for.

    Each batch shares its negatives, entities drawn evenly in place of its tails and again in place of its heads; a
    negative that the graph holds as a fact does not count.

    Args:
        triples: The graph.
        config: Method, dimensions, optimisation and seed.

    Returns:
        The embedding; and its link prediction on held-out triples, with the loss of the last epoch.
    """
    start_s = time.perf_counter()
    held_out = hold_out(triples, config.held_out_share, config.seed)
    learned = triples.part(~held_out)
    with _reproducible(config.seed, config.num_threads):
        model = FAMILIES[config.method](triples.num_entities, triples.num_relations, config.graph_dim)
        loss = _fit(model, learned, config)
        report = link_prediction(model, triples, np.flatnonzero(held_out)[:MAX_RANKED])
    report |= {"num_held_out": int(held_out.sum()), "loss": round(loss, 4)}
    _log.info("%s on %d triples: %s, %.1f s", config.method, len(learned.head), report, time.perf_counter() - start_s)
    return model, report


def _fit(model: Translation, triples: IndexedTriples, config: KnowledgeConfig) -> float:
    """Minimise the method's loss and return its mean over the last epoch; the step size falls to zero on a cosine."""
    learning_rate = config.learning_rate or (0.1 if config.method == "rotate" else 0.02)
    others = [parameter for name, parameter in model.named_parameters() if not name.startswith("entity.")]
    optimizers = [
        torch.optim.SparseAdam([model.entity.weight], lr=learning_rate),
        torch.optim.Adam(others, lr=learning_rate),
    ]
    rng = np.random.default_rng(config.seed)
    num_batches = -(-triples.num_triples // config.batch_size)
    total = config.epochs * num_batches
    schedules = [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(total, 1)) for optimizer in optimizers]
    losses = [0.0]
    for _ in track(range(config.epochs), "Embedding the graph"):
        losses = []
        for rows in np.array_split(rng.permutation(triples.num_triples), num_batches):
            loss = _batch_loss(model, triples, rows, rng, config)
            for optimizer in optimizers:
                optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            for optimizer, schedule in zip(optimizers, schedules, strict=True):
                optimizer.step()
                schedule.step()
            losses.append(float(loss.detach()))
    return float(np.mean(losses))


def _batch_loss(
    model: Translation,
    triples: IndexedTriples,
    rows: NDArray[np.int64],
    rng: np.random.Generator,
    config: KnowledgeConfig,
) -> Tensor:
    head, relation, tail = triples.head[rows], triples.relation[rows], triples.tail[rows]
    drawn = rng.integers(triples.num_entities, size=(2, config.num_negatives))
    used = np.concatenate([head, tail, drawn[0], drawn[1]])
    sizes = [len(rows), len(rows), config.num_negatives, config.num_negatives]
    head_BD, tail_BD, tails_KD, heads_KD = torch.split(model.vectors(torch.from_numpy(used)), sizes)
    relation_B = torch.from_numpy(relation)
    positive_B = model.distance(head_BD, relation_B, tail_BD)
    negative_BK = torch.cat(
        [
            model.distances(head_BD, relation_B, tails_KD, forward=True),
            model.distances(tail_BD, relation_B, heads_KD, forward=False),
        ],
        dim=1,
    )
    facts_BK = np.concatenate(
        [
            triples.contains(head[:, None], relation[:, None], drawn[0][None, :]),
            triples.contains(drawn[1][None, :], relation[:, None], tail[:, None]),
        ],
        axis=1,
    )
    return _loss(positive_B, negative_BK, torch.from_numpy(~facts_BK), config)


def _loss(positive_B: Tensor, negative_BK: Tensor, counts_BK: Tensor, config: KnowledgeConfig) -> Tensor:
    if config.method == "transe":
        return margin_loss(positive_B, negative_BK, counts_BK, config.margin or 1.0)
    if config.method == "rotate":
        return self_adversarial_loss(
            positive_B, negative_BK, counts_BK, config.margin or 3.0, config.adversarial_temperature
        )
    return pairwise_loss(positive_B, negative_BK, counts_BK)


def margin_loss(positive_B: Tensor, negative_BK: Tensor, counts_BK: Tensor, margin: float) -> Tensor:
    """Return the mean of ``[γ + d(positive) − d(negative)]₊`` over the negatives that count.

    Source: TransE, NIPS 2013, eq. 1.
    """
    excess_BK = functional.relu(margin + positive_B[:, None] - negative_BK) * counts_BK
    return excess_BK.sum() / counts_BK.sum().clamp_min(1)


def self_adversarial_loss(
    positive_B: Tensor, negative_BK: Tensor, counts_BK: Tensor, margin: float, temperature: float
) -> Tensor:
    """Return the mean of ``−log σ(γ − d(positive)) − Σ p log σ(d(negative) − γ)``; near negatives weigh more.

    The weights p, a softmax of ``−temperature · d`` over a triple's negatives, take no gradient.

    Source: RotatE, arXiv:1902.10197, eqs. 5-6.
    """
    scores_BK = (-temperature * negative_BK).masked_fill(~counts_BK, -torch.inf)
    weights_BK = torch.softmax(scores_BK, dim=1).nan_to_num(0.0).detach()
    negative_B = (weights_BK * functional.logsigmoid(negative_BK - margin)).sum(1)
    return -(functional.logsigmoid(margin - positive_B) + negative_B).mean()


def pairwise_loss(positive_B: Tensor, negative_BK: Tensor, counts_BK: Tensor) -> Tensor:
    """Return the mean of ``−log σ(d(negative)² − d(positive)²)`` over the negatives that count.

    Source: KGAT, arXiv:1905.07854, eq. 2.
    """
    losses_BK = functional.softplus(positive_B.square()[:, None] - negative_BK.square()) * counts_BK
    return losses_BK.sum() / counts_BK.sum().clamp_min(1)


@torch.no_grad()
def link_prediction(model: Translation, facts: IndexedTriples, rows: NDArray[np.int64]) -> dict[str, Any]:
    """Rank the true tail and the true head of some triples among all entities, other known facts left out.

    Args:
        model: The embedding.
        facts: Every known triple, held-out ones included: the filter.
        rows: Triples of `facts` to rank.

    Returns:
        mrr (mean reciprocal rank), hits_at_10 and num_ranked; ties count half.
    """
    every = np.arange(facts.num_entities)
    table_ND = model.vectors(torch.from_numpy(every))
    ranks: list[NDArray[np.float64]] = []
    rows = rows[
        np.argsort(facts.relation[rows], kind="stable")
    ]  # few relations at a time: TransR projects all entities
    chunk = max(1, _MAX_DISTANCES // facts.num_entities)
    for start in range(0, len(rows), chunk):
        part = rows[start : start + chunk]
        head, relation, tail = facts.head[part], facts.relation[part], facts.tail[part]
        for known, wanted, forward in ((head, tail, True), (tail, head, False)):
            distances = model.distances(
                table_ND[torch.from_numpy(known)], torch.from_numpy(relation), table_ND, forward=forward
            ).numpy()
            place = np.arange(len(part)), wanted
            true = distances[place].copy()
            first, last = (known[:, None], every[None]) if forward else (every[None], known[:, None])
            distances[facts.contains(first, relation[:, None], last)] = np.inf
            ranks.append(1 + (distances < true[:, None]).sum(1) + (distances == true[:, None]).sum(1) / 2)
    if not ranks:
        return {"mrr": None, "hits_at_10": None, "num_ranked": 0}
    rank = np.concatenate(ranks)
    hits = float((rank <= 10).mean())
    return {"mrr": round(float((1 / rank).mean()), 4), "hits_at_10": round(hits, 4), "num_ranked": len(rank)}


@contextmanager
def _reproducible(seed: int, num_threads: int) -> Iterator[None]:
    """Draw initial weights from a seed and compute on so many threads, leaving the caller's own settings as they were.

    A sum split over other threads differs in its last bits, so the number of threads is fixed and not the machine's.
    """
    keep_freed_memory()
    with torch_threads(num_threads), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
