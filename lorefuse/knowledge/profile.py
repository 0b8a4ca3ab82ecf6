"""What a user liked so far, as one text: an encoder reads it as it reads an item.

A profile belongs to one moment of one user and names train rows up to and including it, nothing later; whoever reads it
for a row of time t takes the last profile of an earlier moment. Suffixes: ``K`` profiles, ``E`` text dim.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lorefuse.config import EmbeddingConfig
from lorefuse.core.errors import ConfigError
from lorefuse.core.schema import EVENT_TIMESTAMP, ITEM_ID, LABEL, ROW_ID, SPLIT, USER_ID, Split
from lorefuse.data.dataset import Dataset
from lorefuse.data.split import load_split
from lorefuse.embedding.embed import embed_texts
from lorefuse.embedding.facets import facets_of
from lorefuse.embedding.reduce import Reducer
from lorefuse.knowledge.reviews import train_reviews

Liked = tuple[str, ...]
"""An item's title, its categories joined by commas, and what the user wrote about it; any may be empty or left out."""


def _liked(items: Sequence[Liked]) -> str:
    """Newest first, so that a long profile is cut at its oldest end."""
    named = [f"{title} ({categories})" if categories else title for title, categories, *_ in items[::-1] if title]
    return f"liked: {'; '.join(named)}" if named else ""


def _reviewed(items: Sequence[Liked]) -> str:
    """The user's own words about what they liked, newest first; the title alone where there are none."""
    said = [f"{title}: {review}" if review else title for title, _, review in items[::-1] if title or review]
    return f"wrote: {' / '.join(said)}" if said else ""


REVIEWED = "reviewed@1"
TEMPLATES: dict[str, Callable[[Sequence[Liked]], str]] = {"liked@1": _liked, REVIEWED: _reviewed}
"""A template never changes under its name: a better one gets the next number."""


def profile_text(items: Sequence[Liked], template: str = "liked@1") -> str:
    """Return the text of some liked items, oldest first; empty where none has a title.

    Raises:
        ConfigError: There is no such template.

    Example:
        >>> profile_text([("Heat", "Action, Crime"), ("Emma", "")])
        'liked: Emma; Heat (Action, Crime)'
    """
    if template not in TEMPLATES:
        raise ConfigError(
            "There is no such profile template.",
            expected=", ".join(TEMPLATES),
            got=template,
            fix="correct embedding.profile_prompt",
        )
    return TEMPLATES[template](items)


def profile_texts(
    dataset: Dataset, parts: pd.DataFrame, num_items: int, template: str
) -> tuple[NDArray[np.int64], list[str]]:
    """Return one text for every moment at which a user has a train row.

    Args:
        dataset: The dataset.
        parts: Its split, one row per interaction.
        num_items: Last liked items that are named.
        template: Name of a template.

    Raises:
        ConfigError: There is no such template, or it speaks of reviews and the data has none.

    Returns:
        Rows of the interactions, int64 (K,): the first train row of each user's moment; and the texts.
    """
    events = dataset.interactions()[[USER_ID, ITEM_ID, EVENT_TIMESTAMP, LABEL]].reset_index(drop=True)
    train = events[(parts[SPLIT] == Split.TRAIN).to_numpy()]
    # As aggregates count it: a label of 1, or a value above the train mean.
    threshold = 0.5 if train[LABEL].isin((0, 1)).all() else float(train[LABEL].mean())
    names, item_ids = _names(dataset), events[ITEM_ID].astype(str).tolist()
    reviews = train_reviews(dataset, parts) if template == REVIEWED else [""] * len(events)
    rows, texts = [], []
    for _, own in train.sort_values([EVENT_TIMESTAMP], kind="stable").groupby(USER_ID, sort=False):
        liked: list[Liked] = []
        for _, moment in own.groupby(EVENT_TIMESTAMP, sort=False):
            own_rows = moment.index[moment[LABEL] > threshold]
            liked += [(*names[item_ids[row]], reviews[row]) for row in own_rows]
            rows.append(int(moment.index[0]))
            texts.append(profile_text(liked[-num_items:], template))
    return np.array(rows, dtype=np.int64), texts


def moment_rows(dataset: Dataset, split_path: Path) -> NDArray[np.int64]:
    """Return for each interaction the first train row of its user at its moment, int64 (R,); −1 where there is none."""
    events = dataset.interactions()
    train = events[(load_split(split_path)[0][SPLIT] == Split.TRAIN).to_numpy()]
    first = train.groupby([USER_ID, EVENT_TIMESTAMP], sort=False)[ROW_ID].transform("first")
    result = np.full(len(events), -1, dtype=np.int64)
    result[train[ROW_ID].to_numpy()] = first.to_numpy()
    return result


def profile_vectors(texts: list[str], config: EmbeddingConfig, reducer: Reducer) -> NDArray[np.float32]:
    """Encode profiles into the space of the items' text, (K, E), float32; zeros for an empty text.

    The text takes the place of an item's first facet.

    Args:
        texts: From `profile_texts`.
        config: The items' encoder and facets.
        reducer: Fitted on the items.
    """
    first = facets_of(config)[0].config
    vectors, _ = embed_texts(texts, first)
    full = np.zeros((len(texts), len(reducer.mean)), dtype=np.float32)
    full[:, : vectors.shape[1]] = vectors
    return reducer.transform(full, np.array([bool(text) for text in texts], dtype=np.bool_))


def _names(dataset: Dataset) -> dict[str, Liked]:
    items, roles = dataset.items(), dataset.roles
    titles = items[roles.item_title].fillna("").astype(str).str.strip()
    cells = [items[name].map(_joined) for name in (*roles.item_categories, *roles.item_multi_categories)]
    joined = [", ".join(filter(None, parts)) for parts in zip(*cells, strict=True)] if cells else [""] * len(items)
    return dict(zip(items[ITEM_ID], zip(titles, joined, strict=True), strict=True))


def _joined(cell: object) -> str:
    if isinstance(cell, (list, tuple, np.ndarray)):
        return ", ".join(str(value) for value in cell)
    return "" if cell is None or cell != cell else str(cell)  # NaN is not itself
