"""Vectors of items and users, as the step `item_vectors` leaves them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lorefuse.core.atomic import write_json
from lorefuse.core.errors import ArtifactError
from lorefuse.core.schema import item_block
from lorefuse.training_set.spec import KnowledgeBlock

ARRAYS_FILE, FACTS_FILE = "item_vectors.safetensors", "item_vectors.json"


@dataclass(frozen=True)
class ItemVectors:
    """Knowledge of every item of the catalogue, rows in the order of `items.parquet`.

    Attributes:
        num_items: N.
        knowledge: Vectors by name of their block, float32 (N, E) each, zeros where an item has none; blocks of which no
            item has any are left out.
        facts: Dimensions, the graph's report and the data cutoff.
        profile: float32 (K, E), the users' profile texts in the space of the text; None where none were asked for.
        profile_row: int64 (K,), the interaction whose moment each profile includes.
        written: float32 (W, E), what a language model wrote about users, as `profile`.
        written_row: int64 (W,), as `profile_row`; some of the moments.
        context: float32 (C, E), distinct texts that users asked with, in the space of the text, the first zeros; None
            where interactions have no such text.
        context_row: int64 (S,), the row of `context` of each interaction.
    """

    num_items: int
    knowledge: Mapping[str, NDArray[np.float32]]
    facts: dict[str, Any]
    profile: NDArray[np.float32] | None = None
    profile_row: NDArray[np.int64] | None = None
    written: NDArray[np.float32] | None = None
    written_row: NDArray[np.int64] | None = None
    context: NDArray[np.float32] | None = None
    context_row: NDArray[np.int64] | None = None

    @property
    def blocks(self) -> tuple[KnowledgeBlock, ...]:
        """What models are told of the blocks."""
        addresses = self.facts.get("addresses", {})
        return tuple(
            KnowledgeBlock(name=name, dim=vectors.shape[1], address=addresses.get(name, ""))
            for name, vectors in self.knowledge.items()
        )

    def save(self, path: Path) -> None:
        """Write arrays and facts into a folder."""
        from safetensors.numpy import save_file

        arrays = {item_block(name): vectors for name, vectors in self.knowledge.items()}
        arrays |= {name: array for name in _USER_TEXTS if (array := getattr(self, name)) is not None}
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, str(path / ARRAYS_FILE))
        # The file sorts its arrays: the facts keep the order of the blocks.
        write_json(path / FACTS_FILE, {**self.facts, "num_items": self.num_items, "blocks": list(self.knowledge)})

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
            arrays = load_file(str(path / ARRAYS_FILE))
            knowledge = {name: arrays.pop(item_block(name)) for name in facts["blocks"]}
            return cls(facts["num_items"], knowledge, facts, **arrays)
        except (OSError, ValueError, TypeError, KeyError, SafetensorError) as error:
            raise ArtifactError(f"{path} holds no complete item vectors.", got=str(error)) from None


_USER_TEXTS = tuple(one.name for one in fields(ItemVectors) if one.name not in ("num_items", "knowledge", "facts"))
