"""A brand-new item with nothing but a text: what a user would think of it, and where it would stand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lorefuse.core.errors import ArtifactError, UsageError
from lorefuse.core.schema import TEXT, Tensor, item_block
from lorefuse.export.bundle import EMBEDDING_FILE, SERVING_FILE, TABLES_FILE, Bundle
from lorefuse.export.grow import unknown_items
from lorefuse.export.signature import RANKER_BATCH_SIZE

if TYPE_CHECKING:
    from lorefuse.client import Client


@dataclass(frozen=True)
class Standing:
    """Where a new item would stand for one user.

    Attributes:
        score: The new item's score.
        rank: Its place among the catalogue, 1 is best.
        num_items: Size of the catalogue.
        percentile: Share of the catalogue that scores lower, 0 to 100.
    """

    score: float
    rank: int
    num_items: int
    percentile: float


def new_item_tensors(text: str | Mapping[str, str], bundle_path: Path) -> dict[str, NDArray[Any]]:
    """Turn a text into the item tensors of an item that no training row has seen.

    The id and every category are unseen (index 0), nothing but the text is known, the counts are those of an item
    without history, and the prior comes from the text alone.

    Args:
        text: What is known about the item, best in the words of the catalogue's texts (title, genres, ...). Where the
            model knows several text facets it goes to the first; or give facet name → text.
        bundle_path: Model bundle: its encoder, reducer and prior.

    Returns:
        Item tensors by name, one row each; those of width 0 are left out.

    Raises:
        UsageError: The text is empty, or the model was trained without text.
        ConfigError: The model knows no such text facet.
        ArtifactError: The encoder now gives other vectors than at training.
    """
    from lorefuse.embedding.embed import embed_new_item
    from lorefuse.embedding.reduce import Reducer
    from lorefuse.features.prior import ItemPrior
    from lorefuse.features.rows import item_columns

    bundle = Bundle.load(bundle_path)
    spec = bundle.spec()
    texts = [text] if isinstance(text, str) else list(text.values())
    if not any(part.strip() for part in texts):
        raise UsageError("The new item's text is empty.", expected="a title, or a few words about it")
    if not spec.knowledge_dim(TEXT):
        raise UsageError("This model was trained without text.", fix="bring item text: data.source.item_text")
    vector = embed_new_item(text, bundle.config().embedding)
    _check_space(bundle, vector)
    reduced = Reducer.load(bundle.path).transform(vector, np.ones(1, dtype=np.bool_))
    fields = np.zeros((1, spec.width(Tensor.ITEM_FIELDS)), dtype=np.int64)
    multi = np.zeros((1, spec.width(Tensor.ITEM_MULTI)), dtype=np.int64)
    knowledge = {**unknown_items(spec, 1), TEXT: reduced}
    prior = ItemPrior.load(bundle.path).predict(item_columns(knowledge, fields, multi, spec))
    known = {**bundle.read_json(SERVING_FILE)["item_without_history"], "item_prior": float(prior[0])}
    tensors: dict[str, NDArray[Any]] = {
        Tensor.ITEM_FIELDS: fields,
        Tensor.ITEM_MULTI: multi,
        Tensor.ITEM_NUMERIC: np.array([[known[name] for name in spec.item_numeric]], dtype=np.float32),
        **{item_block(name): vectors for name, vectors in knowledge.items()},
    }
    return {name: tensors[name] for name in spec.item_tensors}


def standing(client: Client, user_id: str, item: dict[str, NDArray[Any]], bundle_path: Path) -> Standing:
    """Ask the server how a user would rate a new item, and where that is among the whole catalogue.

    Args:
        client: Connected to the server that serves this bundle.
        user_id: Raw id; somebody unknown is a newcomer.
        item: From `new_item_tensors`.
        bundle_path: The served model's bundle, whose item tensors are the catalogue.

    Raises:
        UnreachableError: The server is not there.
        UsageError: The server serves a model with other inputs.
    """
    catalogue = Bundle.load(bundle_path).arrays(TABLES_FILE)
    rows = {name: np.concatenate([item[name], table]) for name, table in catalogue.items()}
    user = client.user_tensors(user_id)
    num_rows = len(next(iter(rows.values())))
    scores = np.concatenate(
        [
            client.score(_chunk(user, rows, start, min(start + RANKER_BATCH_SIZE, num_rows)))
            for start in range(0, num_rows, RANKER_BATCH_SIZE)
        ]
    )
    score, others = scores[0], scores[1:]
    return Standing(
        score=float(score),
        rank=int((others > score).sum()) + 1,
        num_items=len(others),
        percentile=round(100 * float((others < score).mean()), 1),
    )


def _chunk(
    user: dict[str, NDArray[Any]], rows: dict[str, NDArray[Any]], start: int, end: int
) -> dict[str, NDArray[Any]]:
    repeated = {name: np.repeat(tensor, end - start, axis=0) for name, tensor in user.items()}
    return repeated | {name: table[start:end] for name, table in rows.items()}


def _check_space(bundle: Bundle, vector: NDArray[np.float32]) -> None:
    """The same address is checked at training and here: vectors of two encoders must never be mixed."""
    from lorefuse.core.atomic import sha256_json
    from lorefuse.embedding.fingerprint import space_of

    facts = bundle.read_json(EMBEDDING_FILE)
    address = sha256_json(space_of(bundle.config().embedding))
    if address != facts["address"] or vector.shape[1] != facts["dim"]:
        raise ArtifactError(
            "The encoder is not the one this model was trained with.",
            expected=f"address {facts['address'][:12]}, {facts['dim']} dimensions",
            got=f"address {address[:12]}, {vector.shape[1]} dimensions",
            fix="bring the encoder's old revision back, or train again: lorefuse run",
        )
