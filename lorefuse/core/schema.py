"""Names that cross a room's border, spelled once: columns, splits, files, tensors, feature views."""

from __future__ import annotations

from enum import StrEnum

USER_ID = "user_id"
ITEM_ID = "item_id"
EVENT_TIMESTAMP = "event_timestamp"
VALUE = "value"
LABEL = "label"
ROW_ID = "row_id"
REVIEW_TEXT = "review_text"
CONTEXT_TEXT = "context_text"
ROW_TEXTS = (REVIEW_TEXT, CONTEXT_TEXT)
"""Columns of text that an interaction may have: what the user wrote about the item, and what they asked before."""
SPLIT = "split"
COLD = "cold"
ENTITY_ID = "entity_id"
HEAD, RELATION, TAIL = "head", "relation", "tail"

TIMESTAMP_UNIT = "us"
"""Timestamps on disk are microseconds in UTC: Feast's Parquet reader fails on nanoseconds with a zone."""


class Split(StrEnum):
    """Parts of a split; code ``n`` in arrays is the position in this order."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"
    EXCLUDED = "excluded"  # rows of held-out cold items that fall into the train period


SPLIT_CODES: dict[str, int] = {part: code for code, part in enumerate(Split)}

SECOND_STRATEGY: dict[str, str] = {
    "per_user_time": "global_time",
    "global_time": "per_user_time",
    "leave_last_out": "per_user_time",
}
"""A configured split strategy → the one that a model is judged on once more."""


class DatasetFile(StrEnum):
    """Files of a dataset folder."""

    INTERACTIONS = "interactions.parquet"
    ITEMS = "items.parquet"
    USERS = "users.parquet"
    TRIPLES = "triples.parquet"
    LINKS = "links.parquet"
    MANIFEST = "manifest.json"
    QUARANTINE = "quarantine.jsonl"


class View(StrEnum):
    """Feature views of the feature store."""

    USER_ATTRIBUTES = "user_attributes"
    USER_STATS = "user_stats"
    USER_INTEREST = "user_interest"
    USER_HISTORY = "user_history"
    ITEM_ATTRIBUTES = "item_attributes"
    ITEM_STATS = "item_stats"


TEXT, GRAPH = "text", "graph"
"""Knowledge blocks of the items that Lorefuse makes itself; a data source may bring more."""
BLOCK_NAME = r"[a-z][a-z0-9_]{0,30}"
"""What a knowledge block may be called."""
RESERVED_BLOCKS = ("attributes", "fields", "history", "id", "multi", "numeric", "prior", "stats", "vectors")
"""Names that would meet those of other tensors, views and arrays of an item."""


def item_block(name: str) -> str:
    """Return what a knowledge block of the items is called as a model's input, a feature view and a stored array."""
    return f"item_{name}"


def block_column(name: str) -> str:
    """Return the column of a knowledge block in its feature view: a list of float32 per item."""
    return f"{name}_vector"


def block_names(name: str) -> tuple[str, ...]:
    """Return the names that a knowledge block takes: tensor and view, column, and a user's two interests in it."""
    return item_block(name), block_column(name), f"liked_{name}", f"centred_{name}"


class Tensor(StrEnum):
    """Inputs and outputs of the served models. ``B`` batch, ``K`` returned; see `training_set.spec` for widths.

    Knowledge blocks of the items are inputs too, float32 (B, E) under `item_block` of their names.
    """

    USER_FIELDS = "user_fields"  # int64 (B, Fu) vocabulary indices; 0 is unseen
    USER_NUMERIC = "user_numeric"  # float32 (B, Pu) raw, scaled inside the model
    USER_INTEREST = "user_interest"  # float32 (B, V) shrunken liked-mean vectors, one block per facet
    USER_HISTORY = "user_history"  # int64 (B, L) catalogue rows + 1 of recent liked items, oldest first; 0 is padding
    ITEM_FIELDS = "item_fields"  # int64 (B, Fi) vocabulary indices; 0 is unseen
    ITEM_MULTI = "item_multi"  # int64 (B, M) padded multi-valued fields; 0 is padding
    ITEM_NUMERIC = "item_numeric"  # float32 (B, Pi)
    EXCLUDE_ROWS = "exclude_rows"  # int64 (B, S) catalogue rows never returned; -1 is padding
    LIKED_ROWS = "liked_rows"  # int64 (B, L) catalogue rows of recent liked items, newest first; -1 is padding
    SEEN_ROWS = "seen_rows"  # int64 (B, L) of recent items, liked or not, likewise
    SCORE = "score"  # float32 (B,) or (B, K)
    CATALOGUE_ROW = "catalogue_row"  # int64 (B, K) rows of the catalogue, best first


USER_TENSORS = (Tensor.USER_FIELDS, Tensor.USER_NUMERIC, Tensor.USER_INTEREST, Tensor.USER_HISTORY)
ITEM_TENSORS = (Tensor.ITEM_FIELDS, Tensor.ITEM_MULTI, Tensor.ITEM_NUMERIC)
"""Those of every data set; knowledge blocks follow them, see `FeatureSpec.item_tensors`."""


class Alias(StrEnum):
    """Aliases of a registered model."""

    CHALLENGER = "challenger"
    CHAMPION = "champion"
