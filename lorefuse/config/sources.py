"""Sources of public data sets: each is read by the room `lorefuse.data` into the same dataset folder."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from lorefuse.config.base import Section


class AmazonSource(Section):
    """Amazon reviews with product metadata: the 2018 or the 2023 release, from local files or by category."""

    kind: Literal["amazon_reviews"] = "amazon_reviews"
    release: Literal["2018", "2023"] = Field("2023", description="Which release the files are of.")
    category: str | None = Field(
        None, pattern=r"^[A-Za-z_]+$", description="Publisher's category name, e.g. Gift_Cards: files are fetched."
    )
    five_core: bool = Field(True, description="2018, fetched: the 5-core subset in place of all reviews.")
    reviews_path: Path | None = Field(None, description="Reviews, one JSON object per line, plain or .gz.")
    reviews: bool = Field(False, description="Keep the text of the reviews, for facets and profiles made of it.")
    meta_path: Path | None = Field(None, description="Products, one JSON object per line, plain or .gz.")

    @model_validator(mode="after")
    def _one_origin(self) -> AmazonSource:
        if (self.reviews_path is None) != (self.meta_path is None):
            raise ValueError("reviews_path and meta_path belong together: name both, or a category")
        if (self.category is None) == (self.reviews_path is None):
            raise ValueError("name either a category (fetched) or reviews_path and meta_path (local)")
        return self


class MINDSource(Section):
    """MIND, the Microsoft news dataset: impressions with what was clicked and what was shown and passed over."""

    kind: Literal["mind"] = "mind"
    size: Literal["small", "large"] = Field("small", description="Which set is fetched where no path is named.")
    train_path: Path | None = Field(None, description="Folder or zip with behaviors.tsv and news.tsv.")
    dev_path: Path | None = Field(None, description="A second folder or zip, joined to the first.")
    history: bool = Field(
        True, description="Clicks of the history column become likes before the log begins (they carry no time)."
    )

    @model_validator(mode="after")
    def _train_first(self) -> MINDSource:
        if self.dev_path is not None and self.train_path is None:
            raise ValueError("dev_path needs train_path")
        return self


class MovieLensLargeSource(Section):
    """MovieLens 1M or 25M, fetched and verified by the publisher's checksum, or from a local folder or zip."""

    kind: Literal["movielens_1m", "movielens_25m"] = Field(description="Which set.")
    data_path: Path | None = Field(None, description="Local folder or zip; null: fetched from the publisher.")
    num_users: int = Field(0, ge=0, description="Keep this many users, drawn by the seed; 0: all.")
    seed: int = Field(0, ge=0, description="Seed of the draw of users.")


class RecBoleSource(Section):
    """RecBole's atomic files: ``<name>.inter``, ``<name>.item`` and, where there is one, ``<name>.user``."""

    kind: Literal["recbole"] = "recbole"
    folder_path: Path = Field(description="Folder of the files.")
    name: str = Field(min_length=1, description="Their common name, e.g. ml-1m.")
    user_id: str = Field("user_id", description="Column of the user's identifier.")
    item_id: str = Field("item_id", description="Column of the item's identifier.")
    timestamp: str = Field("timestamp", description="Column of the Unix time.")
    value: str = Field("rating", description="Column of the rating; empty: every row counts as 1.")
    item_text: tuple[str, ...] = Field((), description="Item columns that make up its text, the title first.")


PublicSource = AmazonSource | MINDSource | MovieLensLargeSource | RecBoleSource
