"""What users wrote about items, of train rows alone: a facet of the item's text, and words of a user's profile.

Suffixes: ``N`` items.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lorefuse.config import EmbeddingConfig
from lorefuse.core.errors import ConfigError
from lorefuse.core.schema import EVENT_TIMESTAMP, ITEM_ID, REVIEW_TEXT, SPLIT, Split
from lorefuse.data.dataset import Dataset
from lorefuse.embedding.embed import embed_texts
from lorefuse.embedding.facets import facets_of

MAX_REVIEW_CHARS = 300
"""Of one review in a text of several, so that none takes the place of all others."""


def train_reviews(dataset: Dataset, parts: pd.DataFrame) -> list[str]:
    """Return the review of every interaction, cut; empty where there is none, and for rows that are not train.

    Raises:
        ConfigError: The data has no reviews.
    """
    texts = dataset.row_texts(REVIEW_TEXT)
    if texts is None:
        raise ConfigError(
            "This data has no review text.",
            expected="data.source.reviews: true (Amazon), or data.source.review_text (files)",
            got="interactions without reviews",
            fix="keep the reviews, or leave facets and profiles of them out",
        )
    is_train = (parts[SPLIT] == Split.TRAIN).to_numpy()
    return [text[:MAX_REVIEW_CHARS] if known else "" for text, known in zip(texts, is_train, strict=True)]


def item_review_texts(dataset: Dataset, parts: pd.DataFrame, num_reviews: int) -> list[str]:
    """Return one text per item, N of them: its first train reviews, oldest first; empty where it has none.

    An item's vector is one for all rows, so the few train rows whose reviews are in it read their own words, as any
    statistic of the item that is not made anew for each row would; later rows and held-out ones do not. That is why
    the first reviews are taken: of the newest ones every train row would read its future.

    Args:
        dataset: The dataset.
        parts: Its split, one row per interaction.
        num_reviews: How many at most.

    Raises:
        ConfigError: The data has no reviews.
    """
    reviews = dataset.interactions()[[ITEM_ID, EVENT_TIMESTAMP]].assign(text=train_reviews(dataset, parts))
    told = reviews[reviews["text"] != ""].sort_values(EVENT_TIMESTAMP, kind="stable")
    text_of = told.groupby(ITEM_ID)["text"].agg(lambda texts: " / ".join(texts.iloc[:num_reviews]))
    return [str(text_of.get(item, "")) for item in dataset.items()[ITEM_ID]]


def fill_review_facets(
    full: NDArray[np.float32],
    has_facet: NDArray[np.bool_],
    dataset: Dataset,
    parts: pd.DataFrame,
    config: EmbeddingConfig,
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return full vectors (N, F · dim) and which facets are there (N, F), with the facets that are made of reviews.

    Args:
        full: From the embeddings, zeros in those facets.
        has_facet: From the embeddings.
        dataset: The dataset.
        parts: Its split.
        config: Facets and their encoder.

    Raises:
        ConfigError: The data has no reviews.
    """
    facets = facets_of(config)
    if not any(facet.reviews for facet in facets):
        return full, has_facet
    blocks, masks = np.split(full, len(facets), axis=1), list(has_facet.T)
    for place, facet in enumerate(facets):
        if facet.reviews:
            texts = item_review_texts(dataset, parts, facet.reviews)
            blocks[place], _ = embed_texts(texts, facet.config)
            masks[place] = np.array([bool(text) for text in texts], dtype=np.bool_)
    return np.concatenate(blocks, axis=1), np.stack(masks, axis=1)
