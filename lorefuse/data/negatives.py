"""Sampled negatives for data that knows only what people took: for each positive row, items the user had not touched.

``P`` positive rows, ``n`` negatives of each.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lorefuse.config import NegativesConfig
from lorefuse.core.errors import ArtifactError, DataError
from lorefuse.core.schema import COLD, ITEM_ID, LABEL, ROW_ID, SPLIT, USER_ID, Split

NEGATIVES_FILE = "negatives.parquet"
MAX_ROUNDS = 100
_PARTS = [Split.TRAIN, Split.VALIDATION, Split.TEST]
POPULARITY_POWER = 0.75
"""Exponent of the popularity sampler, as word2vec's (arXiv:1310.4546, section 2.2)."""


def sample_negatives(interactions: pd.DataFrame, frame: pd.DataFrame, config: NegativesConfig) -> pd.DataFrame:
    """Draw negatives for every positive row of train, validation and test.

    A train row's are drawn among items with train rows. A validation or test row's are drawn among items of its own
    temperature: a warm positive among items with train rows, a cold one among items without, so that AUC over warm
    rows and AUC over cold rows each compare like with like. No item is drawn that the user touches in the row's part
    or an earlier one. Later parts are not looked at: an item that is never a negative would give away that it is a
    positive to come. The same item may stand twice beside one positive.

    Args:
        interactions: The dataset's rows.
        frame: row_id, split and cold, in the same order.
        config: How many, by which sampler, with which seed.

    Returns:
        row_id of the positive and item_id of the negative, sorted by row_id; empty where none are asked for.

    Raises:
        DataError: A user has touched nearly everything, so that nothing is left to draw.
    """
    items, item = np.unique(interactions[ITEM_ID].to_numpy(str), return_inverse=True)
    _, user = np.unique(interactions[USER_ID].to_numpy(str), return_inverse=True)
    part, cold = frame[SPLIT].to_numpy(str), frame[COLD].to_numpy(bool)
    train_count = np.bincount(item[part == Split.TRAIN], minlength=len(items))
    positive = interactions[LABEL].to_numpy() > 0
    rng = np.random.default_rng(config.seed)
    key = user.astype(np.int64) * len(items) + item
    drawn = []
    for name, count in zip(_PARTS, (config.num_train, config.num_eval, config.num_eval), strict=True):
        known = [*_PARTS[: _PARTS.index(name) + 1], Split.EXCLUDED]
        touched = np.unique(key[np.isin(part, known)])
        for is_cold in (False, True):
            places = np.flatnonzero(positive & (part == name) & (cold == is_cold))
            if not count or not len(places):
                continue
            weight = _weights(train_count, (train_count == 0) == is_cold, config.sampler)
            found = _draw(np.repeat(user[places], count), weight, touched, rng)
            drawn.append((np.repeat(places, count), found))
    row = np.concatenate([rows for rows, _ in drawn]) if drawn else np.zeros(0, dtype=np.int64)
    found = np.concatenate([items for _, items in drawn]) if drawn else np.zeros(0, dtype=np.int64)
    order = np.argsort(row, kind="stable")
    return pd.DataFrame({ROW_ID: interactions[ROW_ID].to_numpy()[row[order]], ITEM_ID: items[found[order]]})


def read_negatives(split_path: Path) -> pd.DataFrame:
    """Return the negatives of a split folder: row_id of the positive, item_id; no rows where none were sampled.

    Raises:
        ArtifactError: The file is cut short.
    """
    path = split_path / NEGATIVES_FILE
    if not path.exists():
        return pd.DataFrame({ROW_ID: np.zeros(0, dtype=np.int64), ITEM_ID: np.zeros(0, dtype=object)})
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path} is not whole.", got=str(error), fix="run again: lorefuse run") from None


def _weights(train_count: NDArray[np.int64], candidates: NDArray[np.bool_], sampler: str) -> NDArray[np.float64]:
    # A cold item has no popularity to go by.
    weight = train_count**POPULARITY_POWER if sampler == "popularity" else np.ones(len(train_count))
    weight = np.where(candidates, np.maximum(weight, 1.0), 0.0)
    scaled: NDArray[np.float64] = weight / max(weight.sum(), 1.0)
    return scaled


def _draw(
    user: NDArray[np.int64], weight: NDArray[np.float64], touched: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Draw an item for each entry of `user`, again wherever the user has touched what was drawn."""
    found = np.zeros(len(user), dtype=np.int64)
    open_places = np.arange(len(user))
    cumulative = np.cumsum(weight)
    if not len(cumulative) or cumulative[-1] <= 0:
        raise _nothing_left("no candidate item of this kind")
    for _ in range(MAX_ROUNDS):
        share = rng.random(len(open_places)) * cumulative[-1]
        drawn = np.minimum(np.searchsorted(cumulative, share, side="right"), len(weight) - 1)
        found[open_places] = drawn
        key = user[open_places].astype(np.int64) * len(weight) + drawn
        at = np.minimum(np.searchsorted(touched, key), len(touched) - 1)
        open_places = open_places[touched[at] == key]
        if not len(open_places):
            return found
    raise _nothing_left(f"{len(np.unique(user[open_places]))} users who have touched nearly every item")


def _nothing_left(got: str) -> DataError:
    return DataError(
        "There are no items left to draw negatives from.",
        expected="for each positive row, items of its kind that the user never touched",
        got=got,
        fix="lower data.negatives, or raise split.cold_item_share",
    )
