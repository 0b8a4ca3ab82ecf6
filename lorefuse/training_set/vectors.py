"""Vectors of items and users, as the step `item_vectors` leaves them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lorefuse.core.errors import ArtifactError

ARRAYS_FILE, FACTS_FILE = "item_vectors.safetensors", "item_vectors.json"


@dataclass(frozen=True)
class ItemVectors:
    """Knowledge of every item of the catalogue, rows in the order of `items.parquet`.

    Attributes:
        text: float32 (N, E), zeros where an item has no text.
        graph: float32 (N, G), zeros where an item has no entity; G may be 0.
        has_text: bool (N,).
        has_graph: bool (N,).
        facts: Dimensions, the graph's report and the data cutoff.
        profile: float32 (K, E), the users' profile texts in the space of `text`; None where none were asked for.
        profile_row: int64 (K,), the interaction whose moment each profile includes.
        written: float32 (W, E), what a language model wrote about users, as `profile`.
        written_row: int64 (W,), as `profile_row`; some of the moments.
        context: float32 (C, E), distinct texts that users asked with, in the space of `text`, the first all zeros; None
            where interactions have no such text.
        context_row: int64 (S,), the row of `context` of each interaction.
    """

    text: NDArray[np.float32]
    graph: NDArray[np.float32]
    has_text: NDArray[np.bool_]
    has_graph: NDArray[np.bool_]
    facts: dict[str, Any]
    profile: NDArray[np.float32] | None = None
    profile_row: NDArray[np.int64] | None = None
    written: NDArray[np.float32] | None = None
    written_row: NDArray[np.int64] | None = None
    context: NDArray[np.float32] | None = None
    context_row: NDArray[np.int64] | None = None

    @classmethod
    def load(cls, path: Path | str) -> ItemVectors:
        """Read an item vectors folder.

        Raises:
            ArtifactError: A file is missing or cut short.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        path = Path(path)
        try:
            facts = json.loads((path / FACTS_FILE).read_text("utf-8"))
            return cls(**load_file(str(path / ARRAYS_FILE)), facts=facts)
        except (OSError, ValueError, TypeError, SafetensorError) as error:
            raise ArtifactError(f"{path} holds no complete item vectors.", got=str(error)) from None
