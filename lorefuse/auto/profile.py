"""What a dataset and its split are like: the few numbers that advice can stand on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lorefuse.core.schema import ITEM_ID, ROW_ID, SPLIT, USER_ID, Split

if TYPE_CHECKING:
    from lorefuse.data.dataset import Dataset


@dataclass(frozen=True)
class Profile:
    """Numbers of a dataset under one split. Shares are 0 to 1, and 0 where there is nothing to share.

    Attributes:
        num_items: Items of the catalogue.
        num_users: Users.
        num_train: Train rows.
        num_test: Test rows.
        rows_per_item: Mean train rows of the items that have any.
        rows_per_user: Mean train rows of the users that have any.
        num_words: Mean words of an item's text, over the items that have one.
        no_text_share: Items without text.
        cold_share: Test rows whose item has no train row.
        new_user_share: Test rows whose user has no train row.
        linked_share: Items with a link into the knowledge graph.
        num_links: Links of items to entities.
    """

    num_items: int
    num_users: int
    num_train: int
    num_test: int
    rows_per_item: float
    rows_per_user: float
    num_words: float
    no_text_share: float
    cold_share: float
    new_user_share: float
    linked_share: float
    num_links: int


def profile(dataset: Dataset, split_path: Path, prompt: str = "plain@1") -> Profile:
    """Count what advice depends on.

    Args:
        dataset: The dataset.
        split_path: Its split; only train rows say how dense the data is.
        prompt: `embedding.prompt`, which decides what an item's text is.

    Raises:
        ArtifactError: The split is not whole.
    """
    from lorefuse.data.split import load_split
    from lorefuse.embedding.prompt import item_texts

    items, users, links = dataset.items(), dataset.users(), dataset.links()
    rows = dataset.interactions().merge(load_split(split_path)[0], on=ROW_ID, validate="one_to_one")
    train, test = rows[rows[SPLIT] == Split.TRAIN], rows[rows[SPLIT] == Split.TEST]
    num_words = np.array([len(text.split()) for text in item_texts(items, dataset.roles.item_text, prompt)])
    linked = items[ITEM_ID].isin(links[ITEM_ID]) if links is not None else np.zeros(len(items), dtype=bool)
    return Profile(
        num_items=len(items),
        num_users=len(users),
        num_train=len(train),
        num_test=len(test),
        rows_per_item=len(train) / max(train[ITEM_ID].nunique(), 1),
        rows_per_user=len(train) / max(train[USER_ID].nunique(), 1),
        num_words=_mean(num_words[num_words > 0]),
        no_text_share=_mean(num_words == 0),
        cold_share=_mean(~test[ITEM_ID].isin(train[ITEM_ID]).to_numpy()),
        new_user_share=_mean(~test[USER_ID].isin(train[USER_ID]).to_numpy()),
        linked_share=_mean(np.asarray(linked)),
        num_links=0 if links is None else len(links),
    )


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else 0.0
