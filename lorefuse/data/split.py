"""Split by time, with held-out cold items: train < validation < test, and no way to look ahead."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lorefuse.config import NegativesConfig, SplitConfig
from lorefuse.core.atomic import write_json
from lorefuse.core.errors import ArtifactError, DataError, LeakError
from lorefuse.core.schema import COLD, EVENT_TIMESTAMP, ITEM_ID, ROW_ID, SPLIT, USER_ID, Split
from lorefuse.data.dataset import Dataset
from lorefuse.data.negatives import NEGATIVES_FILE, sample_negatives

SPLIT_FILE, FACTS_FILE = "split.parquet", "split.json"


def split(
    dataset: Dataset, config: SplitConfig, out_path: Path, negatives: NegativesConfig | None = None
) -> dict[str, Any]:
    """Assign every interaction to a part and write `split.parquet`, `split.json` and, if asked, `negatives.parquet`.

    Args:
        dataset: The dataset.
        config: Strategy, shares and how many items are held out as cold.
        out_path: Empty folder to fill.
        negatives: How many negatives to sample for each positive; None: none.

    Returns:
        Strategy, cutoffs, counts and the held-out items.

    Raises:
        DataError: A part would be empty.
    """
    interactions = dataset.coded_interactions()
    frame = assign(interactions, config)
    assert_no_leak(interactions, frame, config)
    frame.to_parquet(out_path / SPLIT_FILE, index=False)
    facts = _facts(interactions, frame, config)
    if negatives is not None and (negatives.num_train or negatives.num_eval):
        sampled = sample_negatives(dataset.interactions(), frame, negatives)
        sampled.to_parquet(out_path / NEGATIVES_FILE, index=False)
        facts["num_negatives"] = len(sampled)
    write_json(out_path / FACTS_FILE, facts)
    return facts


def load_split(path: Path | str) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Read a split folder: the frame (row_id, split, cold) and its facts.

    Raises:
        ArtifactError: A file is missing or cut short.
    """
    path = Path(path)
    try:
        return pd.read_parquet(path / SPLIT_FILE), json.loads((path / FACTS_FILE).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path} is not a whole split.", got=str(error), fix="run again: lorefuse run") from None


def assign(interactions: pd.DataFrame, config: SplitConfig) -> pd.DataFrame:
    """Return row_id, split and cold for each interaction, in the order given.

    `per_user_time` cuts each user's own history; `leave_last_out` takes each user's last row for test and the one
    before it for validation (users with fewer than three rows are train alone); `global_time` cuts all rows at two
    moments, and rows of one moment are never torn apart. Rows of held-out items in the train period become
    `Split.EXCLUDED`, and so do those of few-shot users beyond their first `num_shots`. An item is cold when no train
    row has it, so items that are new by nature count too.
    """
    code = _global(interactions, config) if config.strategy == "global_time" else _per_user(interactions, config)
    held_out = _held_out_items(interactions, config)
    names = [str(part) for part in (Split.TRAIN, Split.VALIDATION, Split.TEST, Split.EXCLUDED)]
    parts = np.array(names, dtype=object)  # one text a part, however many rows
    is_held_out = interactions[ITEM_ID].isin(held_out).to_numpy()
    code = np.where(is_held_out & (code == 0), 3, code)
    code = _few_shots(interactions, code, config)
    train_items = set(interactions[ITEM_ID][code == 0].unique())
    frame = pd.DataFrame(
        {
            ROW_ID: interactions[ROW_ID].to_numpy(),
            SPLIT: parts[code],
            COLD: ~interactions[ITEM_ID].isin(train_items).to_numpy(),
        }
    )
    for number, part in enumerate((Split.TRAIN, Split.VALIDATION, Split.TEST)):
        if not (code == number).any():
            raise DataError(
                f"The {part} part would be empty.",
                expected="at least one row in each part",
                got=f"{len(interactions)} interactions in all, strategy {config.strategy}",
                fix="bring more interactions, or change split.train_share and split.validation_share",
            )
    return frame


def few_shot_users(interactions: pd.DataFrame, config: SplitConfig) -> set[str]:
    """Return the users who keep `num_shots` train rows: a seeded share of all, the same for every number of shots."""
    user_ids = np.sort(interactions[USER_ID].unique().astype(str))
    count = int(config.few_shot_user_share * len(user_ids))
    # A stream of its own: who is few-shot must not move with how many items are cold.
    return set(np.random.default_rng([config.seed, 1]).choice(user_ids, count, replace=False).tolist())


def _few_shots(interactions: pd.DataFrame, code: NDArray[Any], config: SplitConfig) -> NDArray[Any]:
    """Leave few-shot users their first train rows; their later ones and their validation rows are excluded.

    Their test rows are the same for every number of shots, so that 0, 1, 3 and 5 can be compared.
    """
    if not config.few_shot_user_share:
        return code
    few = interactions[USER_ID].isin(few_shot_users(interactions, config)).to_numpy()
    order = interactions.sort_values([USER_ID, EVENT_TIMESTAMP, ITEM_ID], kind="stable").index
    is_train = pd.Series(code == 0, index=interactions.index).reindex(order)
    rank = is_train.astype("int64").groupby(interactions[USER_ID].reindex(order), observed=True).cumsum()
    beyond = (is_train & (rank > config.num_shots)).reindex(interactions.index).to_numpy()
    return np.where(few & (beyond | (code == 1)), 3, code)


def _per_user(interactions: pd.DataFrame, config: SplitConfig) -> NDArray[np.int64]:
    user, item = (_codes(interactions[name]) for name in (USER_ID, ITEM_ID))
    time = interactions[EVENT_TIMESTAMP].to_numpy("datetime64[us]").astype(np.int64)
    order = np.lexsort((item, time, user))
    count = np.bincount(user)
    size = count[user[order]]
    rank = np.arange(len(order)) - (np.cumsum(count) - count)[user[order]]
    if config.strategy == "leave_last_out":
        left = size - rank
        cut = np.where(size < 3, 0, (left <= 2).astype("int64") + (left <= 1)).astype(np.int64)
    else:
        cut = _cut(rank, size, config)
    code = np.empty_like(cut)
    code[order] = cut
    return code


def _codes(ids: pd.Series) -> NDArray[np.int32]:
    """Return the place of each id among the sorted distinct ones."""
    coded = isinstance(ids.dtype, pd.CategoricalDtype)
    codes = ids.cat.codes.to_numpy() if coded else pd.factorize(ids, sort=True)[0]
    return np.asarray(codes, dtype=np.int32)


def _global(interactions: pd.DataFrame, config: SplitConfig) -> NDArray[np.int64]:
    # The rank of a moment is that of its first row, so equal times always fall on the same side.
    rank = interactions[EVENT_TIMESTAMP].rank(method="min").to_numpy() - 1
    return _cut(rank, np.full(len(rank), len(rank)), config)


def _cut(rank: NDArray[Any], size: NDArray[Any], config: SplitConfig) -> NDArray[np.int64]:
    # 0.7 + 0.2 is a hair below 0.9, and nine tenths of ten rows are nine.
    first = np.floor(size * config.train_share + 1e-9)
    second = np.floor(size * (config.train_share + config.validation_share) + 1e-9)
    return (rank >= first).astype("int64") + (rank >= second)


def _held_out_items(interactions: pd.DataFrame, config: SplitConfig) -> set[str]:
    item_ids = np.sort(interactions[ITEM_ID].unique().astype(str))
    count = int(config.cold_item_share * len(item_ids))
    return set(np.random.default_rng(config.seed).choice(item_ids, count, replace=False).tolist())


def assert_no_leak(interactions: pd.DataFrame, frame: pd.DataFrame, config: SplitConfig) -> None:
    """Raise LeakError where a train row is later than the test rows it must not know about.

    Over all rows for `global_time`, else per user; and no cold item may have a train row.
    """
    rows = interactions[[USER_ID, ITEM_ID, EVENT_TIMESTAMP]].assign(part=frame[SPLIT].to_numpy())
    key = pd.Series("all", rows.index) if config.strategy == "global_time" else rows[USER_ID]
    for earlier, later in ((Split.TRAIN, Split.VALIDATION), (Split.VALIDATION, Split.TEST), (Split.TRAIN, Split.TEST)):
        last = rows[EVENT_TIMESTAMP].where(rows["part"] == earlier).groupby(key, observed=True).max()
        first = rows[EVENT_TIMESTAMP].where(rows["part"] == later).groupby(key, observed=True).min()
        if (last > first).any():
            raise LeakError(f"A {earlier} row is later than a {later} row.", got=f"{int((last > first).sum())} groups")
    cold_items = set(interactions[ITEM_ID][frame[COLD].to_numpy()].unique())
    if cold_items & set(rows[ITEM_ID][rows["part"] == Split.TRAIN].unique()):
        raise LeakError("A cold item has a train row.")


def _facts(interactions: pd.DataFrame, frame: pd.DataFrame, config: SplitConfig) -> dict[str, Any]:
    times = interactions[EVENT_TIMESTAMP]
    parts = [Split.TRAIN, Split.VALIDATION, Split.TEST, Split.EXCLUDED]
    masks = {part: (frame[SPLIT] == part).to_numpy() for part in parts}
    return {
        **config.model_dump(),
        "cutoffs": {str(part): times[masks[part]].max().isoformat() for part in parts if masks[part].any()},
        "data_cutoff": times[masks[Split.TRAIN]].max().isoformat(),
        "counts": {str(part): int(masks[part].sum()) for part in parts},
        "cold_counts": {str(part): int((masks[part] & frame[COLD].to_numpy()).sum()) for part in parts},
        "held_out_items": sorted(_held_out_items(interactions, config)),
        "few_shot_users": sorted(few_shot_users(interactions, config)),
    }
