"""Sections of raw data: sources, label, split."""

from __future__ import annotations

import codecs
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from lorefuse.config.base import Section
from lorefuse.config.sources import PublicSource


class MovieLensSource(Section):
    """MovieLens-100K with its knowledge graph, fetched and verified by checksum."""

    kind: Literal["movielens_100k"] = "movielens_100k"
    graph: bool = Field(True, description="Fetch the Freebase triples too and re-key their item links.")


class FileSource(Section):
    """The user's own CSV or Parquet files with a mapping of their columns."""

    kind: Literal["files"] = "files"
    interactions_path: Path = Field(description="CSV (any delimiter) or Parquet with one row per interaction.")
    items_path: Path = Field(description="CSV or Parquet with one row per item.")
    users_path: Path | None = Field(None, description="CSV or Parquet with one row per user.")
    triples_path: Path | None = Field(None, description="CSV or Parquet with columns head, relation, tail.")
    links_path: Path | None = Field(None, description="CSV or Parquet with columns item_id, entity_id.")
    user_id: str = Field("user_id", description="Column of the user's identifier.")
    item_id: str = Field("item_id", description="Column of the item's identifier.")
    timestamp: str = Field("timestamp", description="Column of the event's time: ISO 8601, or Unix time.")
    order: str | None = Field(
        None, description="Column with each user's order (0, 1, 2 …) in place of a time, where there is none."
    )
    timestamp_unit: Literal["auto", "s", "ms", "us", "ns"] = Field(
        "auto", description="Unit of a Unix time; auto tells numbers by what makes most of them moments since 1971."
    )
    value: str | None = Field("rating", description="Column of the rating or event value; null: every row counts as 1.")
    event_values: dict[str, float] = Field(
        {}, description="Values of events that the value's column names, such as {view: 1, buy: 5}."
    )
    review_text: str | None = Field(None, description="Interaction column with what the user wrote about the item.")
    context_text: str | None = Field(
        None, description="Interaction column with the user's query: a search, a line of a chat."
    )
    item_text: tuple[str, ...] = Field(("title",), description="Item columns that make up its text.")
    item_title: str | None = Field(None, description="Item column shown to people; default: the first text column.")
    item_categories: tuple[str, ...] = Field((), description="Item columns with one category each.")
    item_multi_categories: tuple[str, ...] = Field((), description="Item columns with several categories.")
    multi_separator: str = Field("|", min_length=1, description="Separator inside a multi-category cell.")
    item_numerics: tuple[str, ...] = Field((), description="Item columns with a number.")
    user_categories: tuple[str, ...] = Field((), description="User columns with one category each.")
    delimiter: str | None = Field(
        None, min_length=1, max_length=1, description="CSV delimiter; null: what separates the header's names."
    )
    quote: str | None = Field('"', max_length=1, description="What stands around CSV cells; null: nothing does.")
    escape: str | None = Field(
        None, max_length=1, description="What stands before a quote inside a quoted CSV cell; null: the quote doubled."
    )
    encoding: str | None = Field(
        None, description="Encoding of the CSV files, such as latin-1 or cp1251; null: UTF-8, or UTF-16 with its mark."
    )

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, name: str | None) -> str | None:
        if name is not None:
            try:
                codecs.lookup(name)
            except LookupError:
                raise ValueError(f"there is no encoding {name!r}; such as utf-8, latin-1, cp1251, shift_jis") from None
        return name

    @field_validator("value", "quote", "escape", mode="before")
    @classmethod
    def _empty_is_null(cls, value: object) -> object:
        """A pipeline parameter carries no null, so `dump_config` writes an empty text."""
        return None if value == "" else value


class LabelConfig(Section):
    """What the ranker predicts."""

    kind: Literal["binary", "regression"] = Field("binary", description="Like or not, or the value itself.")
    threshold: float = Field(4.0, description="A value of at least this is a like (binary).")


class NegativesConfig(Section):
    """Sampled negatives, for data that holds only what people took."""

    num_train: int = Field(0, ge=0, le=1000, description="Negatives of each positive train row.")
    num_eval: int = Field(0, ge=0, le=1000, description="Negatives of each positive validation and test row.")
    sampler: Literal["uniform", "popularity"] = Field("uniform", description="How they are drawn.")
    seed: int = Field(0, ge=0, description="Seed of the draw.")


class DataConfig(Section):
    """Raw data → dataset."""

    source: Annotated[MovieLensSource | FileSource | PublicSource, Field(discriminator="kind")] = MovieLensSource()
    label: LabelConfig = LabelConfig()
    negatives: NegativesConfig = NegativesConfig()
    max_bad_share: float = Field(0.05, ge=0, le=1, description="More quarantined rows than this is an error.")


class SplitConfig(Section):
    """Train < validation < test in time, with held-out cold items."""

    strategy: Literal["per_user_time", "global_time", "leave_last_out"] = Field(
        "per_user_time", description="Where the cuts lie."
    )
    train_share: float = Field(0.8, gt=0, lt=1, description="Share of rows before the first cut.")
    validation_share: float = Field(0.1, gt=0, lt=1, description="Share of rows between the cuts.")
    cold_item_share: float = Field(0.12, ge=0, lt=1, description="Share of items without any training row.")
    few_shot_user_share: float = Field(0.0, ge=0, lt=1, description="Share of users who keep few train rows.")
    num_shots: int = Field(3, ge=0, description="Train rows that each of them keeps, their first: 0, 1, 3, 5 …")
    seed: int = Field(0, ge=0, description="Which items are held out as cold, and which users are few-shot.")

    @model_validator(mode="after")
    def _leaves_a_test_part(self) -> SplitConfig:
        if self.train_share + self.validation_share >= 1:
            raise ValueError("train_share + validation_share must leave a test part (sum below 1)")
        return self
