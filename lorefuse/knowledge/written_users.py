"""What a language model wrote about users (`lorefuse.enrich`), joined to the moments it may be known from.

Suffixes: ``K`` texts.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lorefuse.core.errors import ArtifactError, LeakError
from lorefuse.core.schema import EVENT_TIMESTAMP, ROW_ID, USER_ID
from lorefuse.data.dataset import Dataset
from lorefuse.embedding.written import KNOWLEDGE_FILE
from lorefuse.enrich.histories import QUESTION, user_histories
from lorefuse.enrich.write import FACTS_FILE
from lorefuse.knowledge.profile import moment_rows

_COLUMNS = [USER_ID, ROW_ID, EVENT_TIMESTAMP, QUESTION, "text"]


def written_texts(dataset: Dataset, split_path: Path, knowledge_path: Path) -> tuple[NDArray[np.int64], list[str], int]:
    """Return the texts that know nothing but this split's train rows up to their moment.

    What was asked is asked again: from the train rows of this very split up to the row that a text ends with. Where the
    two questions differ (another split, a row that is not train here, a grown dataset), the text is left out.

    Args:
        dataset: The dataset.
        split_path: Which rows are train.
        knowledge_path: Folder of `write_user_knowledge`.

    Returns:
        Rows of the interactions, int64 (K,), as `profile.profile_texts` names moments; texts; how many were left out.

    Raises:
        ArtifactError: The folder holds no knowledge about users.
        LeakError: None of the texts is of this split's train rows.
    """
    try:
        frame = pd.read_parquet(knowledge_path / KNOWLEDGE_FILE)
        facts = json.loads((knowledge_path / FACTS_FILE).read_text("utf-8"))
        template, num_titles = str(facts["template"]), int(facts["num_titles"])
    except (OSError, ValueError, KeyError) as error:
        raise ArtifactError(f"{knowledge_path} holds no knowledge about users.", got=repr(error)) from None
    if list(frame.columns) != _COLUMNS:
        raise ArtifactError(
            f"{knowledge_path / KNOWLEDGE_FILE} does not fit.",
            expected=", ".join(_COLUMNS),
            got=", ".join(map(str, frame.columns)),
            fix="lorefuse enrich --about users",
        )
    own = user_histories(dataset, split_path, num_titles, ends=set(frame[ROW_ID].tolist()))
    digest_of = {part.row_id: part.digest(template) for part in own}
    asked = zip(frame[ROW_ID], frame[QUESTION], strict=True)
    fits = np.array([digest_of.get(row) == digest for row, digest in asked], dtype=bool)
    if not fits.any():
        raise LeakError(
            "What was written about users is not of this split's train rows.",
            expected="questions that this split's train rows make",
            got=f"{len(frame)} texts, none of them such",
            fix="write it of this split: lorefuse enrich --about users",
        )
    kept = frame[fits]
    # Of two texts that end at one moment the later one stays.
    moments = moment_rows(dataset, split_path)[kept[ROW_ID].to_numpy(np.int64)]
    last = pd.Series(kept["text"].astype(str).to_numpy()).groupby(moments, sort=True).last()
    return last.index.to_numpy(np.int64), last.tolist(), int((~fits).sum())
