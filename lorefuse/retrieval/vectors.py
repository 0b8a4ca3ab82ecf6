"""Two trained towers as plain arrays: what serving reads, and what lets a new item join without training.

Users and items are addressed by the vocabularies' indices, as in the served features, and not by rows of a training
table. Suffixes: ``N`` items, ``B`` rows, ``F`` fields, ``L`` history length, ``D`` embedding width, ``E`` width of a
knowledge block.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from lorefuse.core.errors import ArtifactError
from lorefuse.core.schema import TEXT, Tensor, item_block
from lorefuse.retrieval.two_tower import TwoTower
from lorefuse.training_set.arrays import TrainingSet

TOWERS_FILE = "two_tower.safetensors"
_WEIGHT = "weight."
Floats = NDArray[np.float32]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class TowerArrays:
    """Both towers; the formulas stand at `two_tower.Towers`.

    Attributes:
        item_vectors: float32 (N, D), not yet of unit length.
        user_table: float32 (·, D), the tables of all user fields one below the other, the id's first.
        user_offsets: int64 (Fu + 1,), where each field's table begins, and the end.
        item_table: float32 (·, D), likewise for items, but of the ids the unseen one alone.
        item_offsets: int64 (Fi + 1,).
        history: float32 (D, D), what the mean of past items is multiplied by, from the right.
        text_weight: float32 (E, D), what an item's text adds.
        text_bias: float32 (D,), added to items that have a text.
        weights: What an item's vectors of other knowledge blocks add, float32 (E, D) by name of the block.
    """

    item_vectors: Floats
    user_table: Floats
    user_offsets: Integers
    item_table: Floats
    item_offsets: Integers
    history: Floats
    text_weight: Floats
    text_bias: Floats
    weights: Mapping[str, Floats]

    @classmethod
    def of(cls, recommender: TwoTower, training_set: TrainingSet) -> Self:
        """Take the arrays of a recommender that was fitted on this training set."""
        towers = recommender.towers
        vectors_ND = recommender.item_vectors()
        user_table, user_offsets = _tables(towers.user.table, towers.user.index, training_set.user_fields)
        # Ids stand in training order; the vocabulary's order is what requests speak.
        size = training_set.spec.user_fields[0].size
        ids = np.repeat(user_table[:1], size, axis=0)
        ids[training_set.user_fields[:, 0]] = user_table[towers.user.index[:, 0].numpy()]
        ids[0] = user_table[0]
        item_table, item_offsets = _tables(towers.item.table, towers.item.index, training_set.item_fields)
        return cls(
            item_vectors=vectors_ND,
            user_table=np.concatenate([ids, user_table[user_offsets[1] :]]),
            user_offsets=np.concatenate([[0], user_offsets[1:] - user_offsets[1] + size]),
            item_table=np.concatenate([item_table[:1], item_table[item_offsets[1] :]]),
            item_offsets=np.concatenate([[0], item_offsets[1:] - item_offsets[1] + 1]),
            history=np.ascontiguousarray(towers.history.weight.detach().numpy().T),
            **_knowledge(recommender, training_set),
        )

    def users(self, user_fields_BF: Integers, past_BL: Integers, weight_BL: Floats) -> Floats:
        """Return user vectors of unit length, (B, D).

        Args:
            user_fields_BF: Vocabulary indices, as `Tensor.USER_FIELDS`.
            past_BL: Catalogue rows of liked items; -1 is padding.
            weight_BL: Their weights; only the ratios within a row count.
        """
        sum_BD = _sums(self.user_table, self.user_offsets, user_fields_BF)
        weight_BL = np.where(past_BL >= 0, weight_BL, 0)
        total_B1 = np.maximum(weight_BL.sum(1, keepdims=True), 1e-12)
        mean_BD = np.einsum("bl,bld->bd", weight_BL / total_B1, self.item_vectors[past_BL])
        return unit(sum_BD + mean_BD.astype(np.float32) @ self.history)

    def grown(self, tables: dict[str, NDArray[np.generic]], first_row: int) -> Self:
        """Return towers that know the items from `first_row` on as well, from their words, categories and graph.

        Args:
            tables: Item tensors of the whole catalogue, by name.
            first_row: Number of items that are known.
        """
        new = {name: table[first_row:] for name, table in tables.items()}
        fields = new[Tensor.ITEM_FIELDS.value].astype(np.int64)
        fields[:, 0] = 0
        vectors = _sums(self.item_table, self.item_offsets, fields)
        if len(self.text_weight):
            text = new[item_block(TEXT)].astype(np.float32)
            vectors = vectors + (text @ self.text_weight + self.text_bias) * text.any(1, keepdims=True)
        for name, weight in self.weights.items():
            vectors = vectors + new[item_block(name)].astype(np.float32) @ weight
        return replace(self, item_vectors=np.concatenate([self.item_vectors, vectors.astype(np.float32)]))

    def save(self, folder_path: Path) -> None:
        """Write `two_tower.safetensors`."""
        from safetensors.numpy import save_file

        arrays = {name: array for name, array in vars(self).items() if name != "weights"}
        arrays |= {f"{_WEIGHT}{name}": weight for name, weight in self.weights.items()}
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, str(folder_path / TOWERS_FILE))

    @classmethod
    def load(cls, folder_path: Path) -> Self:
        """Read `two_tower.safetensors`.

        Raises:
            ArtifactError: It is missing, cut short, or holds other arrays.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            arrays = load_file(str(folder_path / TOWERS_FILE))
            weights = {name: arrays.pop(name) for name in sorted(arrays) if name.startswith(_WEIGHT)}
            return cls(**arrays, weights={name.removeprefix(_WEIGHT): weight for name, weight in weights.items()})
        except (OSError, SafetensorError, TypeError) as error:
            raise ArtifactError(
                f"{folder_path} holds no complete towers.", got=str(error), fix="lorefuse run"
            ) from None


def unit(vectors_BD: NDArray[np.floating]) -> Floats:
    """Return the rows at length 1, float32."""
    length_B1 = np.maximum(np.linalg.norm(vectors_BD, axis=1, keepdims=True), 1e-12)
    return np.ascontiguousarray(vectors_BD / length_B1, dtype=np.float32)


def recency(length: int, half_life: float | None) -> Floats:
    """Return the weights of past items, newest first, (L,): 0.5^(number of later ones / half_life)."""
    return np.asarray(np.ones(length) if half_life is None else 0.5 ** (np.arange(length) / half_life), np.float32)


def _sums(table: Floats, offsets: Integers, fields_BF: Integers) -> Floats:
    """Add up the embeddings of each row's fields; an index that a table lacks counts as unseen."""
    known_BF = fields_BF < np.diff(offsets)
    return np.asarray(table[np.where(known_BF, fields_BF, 0) + offsets[:-1]].sum(1), np.float32)


def _tables(table: object, index: object, fields: Integers) -> tuple[Floats, Integers]:
    """Return a `FieldSum`'s table and where each field begins in it; `fields` are the ones it was made from."""
    import torch

    assert isinstance(table, torch.Tensor)
    assert isinstance(index, torch.Tensor)
    starts = [0, *(int(index[0, place]) - int(fields[0, place]) for place in range(1, fields.shape[1])), len(table)]
    return table.detach().numpy(), np.array(starts, np.int64)


def _knowledge(recommender: TwoTower, training_set: TrainingSet) -> dict[str, Any]:
    towers, dim = recommender.towers, recommender.config.embedding_dim
    maps = towers.knowledge.maps
    nothing = {"text_weight": np.zeros((0, dim), np.float32), "text_bias": np.zeros(dim, np.float32), "weights": {}}
    if towers.residual is None:
        return nothing
    residual = towers.residual.weight.detach().numpy().T  # (width of the knowledge, D), the text's rows first
    widths = [training_set.spec.knowledge_dim(name) for name in maps.scales]
    starts = len(residual) - sum(widths) + np.cumsum([0, *widths])[:-1]
    of_text, *others = np.split(residual, starts) if widths else [residual]
    scaled = {name: part * np.float32(maps.scales[name]) for name, part in zip(maps.scales, others, strict=True)}
    if maps.text is None:
        return {**nothing, "weights": scaled}
    weight, bias = maps.text
    return {"text_weight": weight @ of_text, "text_bias": bias @ of_text, "weights": scaled}
