"""What a language model may be told about a user: liked train titles up to a moment, and nothing later.

A text about a whole train history knows every train row it is joined to, and a model trained on it would read the label
off the text. So a user gets several texts, each of a longer part of the train history, and each carries its moment: a
row reads the last text of an earlier moment (`features.profile`), validation, test and serving the text of the whole.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from lorefuse.core.atomic import sha256_json
from lorefuse.core.errors import LeakError
from lorefuse.core.schema import EVENT_TIMESTAMP, ITEM_ID, ROW_ID, SPLIT, USER_ID, Split
from lorefuse.data.dataset import Dataset
from lorefuse.data.split import load_split
from lorefuse.embedding.consumption import liked_train
from lorefuse.enrich.prompts import USER_QUESTIONS, Messages, question, title_list

QUESTION = "question_sha256"
"""Column of the knowledge about users: digest of what was asked, so that anyone may ask again what it held."""


@dataclass(frozen=True)
class UserHistory:
    """A part of a user's train history.

    Attributes:
        user_id: The user.
        row_id: The last liked train row it holds.
        event_timestamp: When that was: the cutoff of all that is written about it.
        titles: Latest liked titles, the latest last.
    """

    user_id: str
    row_id: int
    event_timestamp: pd.Timestamp
    titles: list[str]

    def asked(self, template: str) -> Messages:
        """Return the chat about it.

        Raises:
            ConfigError: There is no such question.
        """
        return question(template, USER_QUESTIONS, "enrich.user_prompt").about(title_list(self.titles))

    def digest(self, template: str) -> str:
        """Return the sha256 of that chat."""
        return sha256_json(self.asked(template))


def user_histories(
    dataset: Dataset,
    split_path: Path,
    num_titles: int,
    *,
    num_texts: int = 1,
    ends: Collection[int] | None = None,
    row_ids: Collection[int] | None = None,
) -> list[UserHistory]:
    """Return parts of each user's liked train history, all from its beginning; users without any are left out.

    Args:
        dataset: The dataset.
        split_path: Which rows are train.
        num_titles: How many titles at most, the latest.
        num_texts: Parts a user, of equal steps: 1/n of the liked rows, 2/n, … all. Fewer where there are fewer rows.
        ends: In place of such steps, the parts that end with these rows; rows that are not liked train rows have none.
        row_ids: Read these train rows alone.

    Raises:
        LeakError: A row of `row_ids` is not train: a text of it would know what is to be predicted.
    """
    liked = liked_train(dataset, split_path)
    if row_ids is not None:
        _refuse_other_parts(split_path, set(row_ids))
        liked = liked[liked[ROW_ID].isin(set(row_ids))]
    items = dataset.items()
    title_of = pd.Series(items[dataset.roles.item_title].to_numpy(), index=items[ITEM_ID])
    named = liked.assign(title=liked[ITEM_ID].map(title_of))
    named = named[named["title"].notna()]
    found = []
    for user_id, own in named.groupby(USER_ID, sort=True):
        rows, times = own[ROW_ID].tolist(), own[EVENT_TIMESTAMP].tolist()
        titles = own["title"].astype(str).tolist()
        if ends is None:
            steps = np.ceil(len(rows) * np.arange(1, num_texts + 1) / num_texts).astype(int)
            lengths = sorted(set(steps.tolist()))
        else:
            lengths = [place + 1 for place, row in enumerate(rows) if row in ends]
        found += [
            UserHistory(str(user_id), rows[end - 1], times[end - 1], titles[max(0, end - num_titles) : end])
            for end in lengths
        ]
    return found


def _refuse_other_parts(split_path: Path, wanted: set[int]) -> None:
    parts = load_split(split_path)[0]
    others = wanted - set(parts.loc[parts[SPLIT] == Split.TRAIN, ROW_ID].tolist())
    if others:
        raise LeakError(
            "Knowledge about users may be written from train rows alone.",
            expected=f"rows that are {Split.TRAIN} in {split_path}",
            got=f"{len(others)} others, e.g. row {min(others)}",
            fix="leave them out",
        )
