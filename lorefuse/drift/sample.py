"""What drift looks at in a set of rows: numbers, categories, vectors, scores, and who is unknown to the model.

Suffix ``R``: the sample's rows.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lorefuse.features.aggregates import unit_rows
from lorefuse.training_set.arrays import TrainingSet


@dataclass(frozen=True)
class Sample:
    """Rows as drift compares them.

    Attributes:
        num_rows: R.
        numeric: float64 (R,) by name.
        categories: int64 vocabulary indices by name; (R,), or more where a row has several.
        vectors: (R, E) of the rows' items by name.
        score: float64 (R,) the model's scores; None where there are none.
        unseen_users: Share of rows whose user the model does not know.
        unseen_items: Share of rows whose item the model does not know.
    """

    num_rows: int
    numeric: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    categories: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    vectors: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    score: NDArray[np.float64] | None = None
    unseen_users: float = 0.0
    unseen_items: float = 0.0


def sample_of(training_set: TrainingSet, rows_R: NDArray[np.int64], score_R: NDArray[np.floating] | None) -> Sample:
    """Return what drift compares of some rows.

    Ids are left out: that they differ is no drift, and how many are unknown is counted by itself. A vector of zeros
    (no text, no entity) is left out of its centroid.

    Args:
        training_set: Rows with features as of their own time.
        rows_R: Which rows.
        score_R: The model's scores of these rows.
    """
    spec, users, items = training_set.spec, training_set.user_row[rows_R], training_set.item_row[rows_R]
    states = training_set.state_row[rows_R]
    numeric = dict(zip(spec.user_numeric, training_set.user_numeric[states].T, strict=True))
    numeric |= dict(zip(spec.item_numeric, training_set.item_numeric[rows_R].T, strict=True))
    numeric |= _interests(training_set, states, items)
    categories = {entry.name: training_set.user_fields[users, n] for n, entry in enumerate(spec.user_fields) if n} | {
        entry.name: training_set.item_fields[items, n] for n, entry in enumerate(spec.item_fields) if n
    }
    start = 0
    for multi in spec.item_multi_fields:
        cells = training_set.item_multi[items, start : start + multi.width]
        categories[multi.name] = cells[cells > 0]
        start += multi.width
    label = training_set.label[rows_R]
    if spec.label_kind == "binary":
        categories["label"] = label.astype(np.int64) + 1  # 0 would read as unseen
    else:
        numeric["label"] = label
    vectors = {name: table[items] for name, table in training_set.knowledge.items()}
    return Sample(
        num_rows=len(rows_R),
        numeric={name: values.astype(np.float64) for name, values in numeric.items()},
        categories={name: values for name, values in categories.items() if len(values)},
        vectors={name: kept for name, table in vectors.items() if len(kept := table[np.abs(table).sum(1) > 0])},
        score=None if score_R is None else score_R.astype(np.float64),
        unseen_users=float((training_set.user_fields[users, 0] == 0).mean()) if len(rows_R) else 0.0,
        unseen_items=float((training_set.item_fields[items, 0] == 0).mean()) if len(rows_R) else 0.0,
    )


def _interests(
    training_set: TrainingSet, states_R: NDArray[np.integer], items_R: NDArray[np.integer]
) -> dict[str, NDArray[np.float32]]:
    """Return the interest scalars that the model reads: the user's side times the item's unit vector."""
    tables = {name: unit_rows(training_set.item_table(name)) for name in training_set.spec.knowledge_tensors}
    found, start = {}, 0
    for facet in training_set.spec.interest:
        side = training_set.user_interest[states_R, start : start + facet.dim]
        found[facet.name] = (side * tables[facet.against][items_R]).sum(axis=1)
        start += facet.dim
    return found
