"""Knowledge that a language model wrote (`lorefuse.enrich`), beside the columns it is about."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from lorefuse.core.errors import ArtifactError, ConfigError

KNOWLEDGE_FILE = "knowledge.parquet"


def join_knowledge(frame: pd.DataFrame, knowledge_path: Path, column: str) -> pd.DataFrame:
    """Return the frame with the written texts as one more column; None where nothing was written.

    Args:
        frame: Items or users, with the key the knowledge is about; its order stays.
        knowledge_path: Folder written by `write_item_knowledge` or `write_user_knowledge`.
        column: Name of the new column.

    Raises:
        ConfigError: The frame has a column of this name already.
        ArtifactError: The folder holds no knowledge, or it is about something else.
    """
    if column in frame.columns:
        raise ConfigError(f"There is a column {column!r} already.", fix="give the written knowledge another name")
    try:
        knowledge = pd.read_parquet(knowledge_path / KNOWLEDGE_FILE)
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{knowledge_path} holds no written knowledge.", got=str(error)) from None
    key = str(knowledge.columns[0])
    if list(knowledge.columns[1:]) != ["text"] or key not in frame.columns:
        raise ArtifactError(
            f"{knowledge_path / KNOWLEDGE_FILE} does not fit.",
            expected=f"text by one of {', '.join(map(str, frame.columns))}",
            got=", ".join(map(str, knowledge.columns)),
        )
    text_of = knowledge.set_index(key)["text"]
    return frame.assign(**{column: frame[key].map(text_of)})
