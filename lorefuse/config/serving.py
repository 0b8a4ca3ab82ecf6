"""Sections of the registry and of the served models."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from lorefuse.config.base import Section

GATE_METRIC = r"^(auc|gauc|logloss|rmse)_(all|warm|cold)$"
MODEL_NAME = r"^[^\s/:@%?#][^/:@%?#]*$"
"""MLflow allows no slash and no colon; the others mean something in an address."""


class RegistryConfig(Section):
    """MLflow names and the promotion gate."""

    experiment: str = Field("lorefuse", min_length=1, description="MLflow experiment.")
    model_name: str = Field("lorefuse-ranker", max_length=200, pattern=MODEL_NAME, description="Registered model.")
    gate_metric: str = Field(
        "auc_warm",
        pattern=GATE_METRIC,
        description="Test metric compared with the champion's; values (label.kind: regression) have rmse.",
    )
    require_beats_shuffled: bool = Field(
        False, description="Refuse a model that does not beat its own shuffled-knowledge control by this metric."
    )
    max_membership_auc: float | None = Field(
        None,
        ge=0.5,
        le=1,
        description="Refuse a model whose train rows can be found out better than this, measured on models of "
        "random halves of them (section leaks), which are then trained before it is judged; "
        "0.5 is guessing; null: not measured.",
    )


class ServedRetrievalConfig(Section):
    """How a catalogue that is too large for one graph is searched; what is found is then ranked.

    The index is a list of item vectors for each cell of a partition; a search reads the cells nearest to the user.
    """

    mode: Literal["auto", "exact", "ann"] = Field(
        "auto",
        description="ann: an index finds what the ranker orders; auto: so do blends (section candidates), and without "
        "one the index above `threshold`; exact: the same, but without a blend every item is ranked.",
    )
    threshold: int = Field(
        50_000, ge=1, description="Without a blend, auto ranks every item of a catalogue of at most this many."
    )
    num_retrieved: int = Field(
        500, ge=1, le=20_000, description="Items that are found for a user and ranked; never fewer than `max_k`."
    )
    min_recall: float = Field(
        0.95, gt=0, le=1, description="Smallest share of the truly nearest `num_retrieved` items that must be found."
    )
    num_lists: int | None = Field(None, ge=1, description="Cells of the index; null: about 2·√(items).")
    num_probes: int | None = Field(
        None, ge=1, description="Cells that a search reads; null: as few as reach `min_recall`, at most a quarter."
    )
    num_judged: int = Field(1000, ge=2, description="Held-out users whose searches are compared with exact ones.")

    def two_stage(self, num_items: int) -> bool:
        """Tell whether a catalogue of so many items is searched by an index."""
        return self.mode == "ann" or (self.mode == "auto" and num_items > self.threshold)


class ServingConfig(Section):
    """What the served models allow."""

    max_k: int = Field(100, ge=1, le=1000, description="Most items a request may ask for.")
    max_exclude: int = Field(1024, ge=1, description="Most seen items excluded per request.")
    newcomer_pool: float | None = Field(
        1.5,
        ge=1,
        description="Somebody unknown gets the best k of this many times k popular items; null: of all items.",
    )
    dynamic_batching: bool | None = Field(
        None,
        description="Answer waiting requests together on a CPU: more under full load, and later ones too; null: where "
        "one graph ranks all items.",
    )
    embed: bool = Field(
        False, description="Carry the text encoder (minilm: 90 MB a version), so that new items are scored from words."
    )
    num_reference_rows: int = Field(256, ge=8, description="Rows whose scores travel with the version.")
    retrieval: ServedRetrievalConfig = ServedRetrievalConfig()
