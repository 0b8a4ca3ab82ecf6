"""Does anything know the future? Every artifact's cutoff, and the arrays themselves, against the split."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lorefuse.core.errors import ArtifactError, LeakError
from lorefuse.core.schema import SPLIT, SPLIT_CODES, Split
from lorefuse.data.split import load_split
from lorefuse.features.aggregates import ITEM_NUMERIC, USER_NUMERIC, unit_rows
from lorefuse.features.profile import user_texts
from lorefuse.training_set.arrays import TrainingSet
from lorefuse.training_set.vectors import ItemVectors

CUTOFF_FILES = {
    "item_vectors": "item_vectors.json",
    "feature_data": "views.json",
    "training_set": "feature_spec.json",
}
"""Artifact → its file that records what its numbers were fitted on, as ``data_cutoff``."""


def check_leaks(folders: Mapping[str, Path], *, num_sampled: int = 300, seed: int = 0) -> dict[str, Any]:
    """Check the artifacts of one split and return what was checked.

    No artifact was fitted on later data than the split's train rows; users' profile and written texts include train
    rows alone; no cold item has a train row; and for a sample of rows, the counts that a model reads equal a naive
    count of train rows strictly earlier, and a text about the user is the last one of an earlier moment.

    Args:
        folders: ``split``, and any of ``item_vectors``, ``feature_data``, ``training_set``, ``bundle``.
        num_sampled: Rows to recompute.
        seed: Of the sample.

    Returns:
        data_cutoff, cutoffs by artifact, num_sampled.

    Raises:
        LeakError: Names the artifact or the row that knows too much.
        ArtifactError: An artifact says nothing about its cutoff.
    """
    parts, facts = load_split(folders["split"])
    limit = str(facts["data_cutoff"])
    cutoffs = {name: _cutoff(path, name) for name, path in folders.items() if name in (*CUTOFF_FILES, "bundle")}
    for name, cutoff in cutoffs.items():
        if cutoff > limit:
            raise LeakError(
                f"The artifact {name} knows later data than the train rows.",
                expected=f"a cutoff of at most {limit}",
                got=cutoff,
                fix="fit it on the same split: lorefuse run",
            )
    if "item_vectors" in folders:
        _check_profiles(folders["item_vectors"], (parts[SPLIT] == Split.TRAIN).to_numpy())
    sampled = 0
    if "training_set" in folders:
        training_set = TrainingSet.load(folders["training_set"])
        _check_cold(training_set)
        sampled = _check_counts(training_set, num_sampled, seed)
        if "item_vectors" in folders:
            _check_user_texts(training_set, ItemVectors.load(folders["item_vectors"]), num_sampled, seed)
    return {"data_cutoff": limit, "cutoffs": cutoffs, "num_sampled": sampled}


def _cutoff(path: Path, name: str) -> str:
    file_path = path / CUTOFF_FILES.get(name, "bundle.json")
    try:
        return str(json.loads(file_path.read_text("utf-8"))["data_cutoff"])
    except (OSError, ValueError, KeyError) as error:
        raise ArtifactError(
            f"{file_path} does not say which data its numbers come from.", expected="data_cutoff", got=repr(error)
        ) from None


def _check_profiles(path: Path, is_train: NDArray[np.bool_]) -> None:
    vectors = ItemVectors.load(path)
    for name, rows in (("profile", vectors.profile_row), ("written text", vectors.written_row)):
        if rows is None:
            continue
        if len(rows) and (rows.min() < 0 or rows.max() >= len(is_train)):
            raise LeakError(f"The users' {name}s are of another dataset.", got=f"row {rows.max()} of {len(is_train)}")
        late = rows[~is_train[rows]]
        if len(late):
            raise LeakError(
                f"A user's {name} includes a row that is not train.", got=f"{len(late)}, the first {late[0]}"
            )


def _check_user_texts(training_set: TrainingSet, vectors: ItemVectors, num_sampled: int, seed: int) -> None:
    """A row's text about its user points where the last text of a strictly earlier moment points; else it is zeros."""
    num_states = training_set.num_states
    states = np.random.default_rng(seed).choice(num_states, min(num_sampled, num_states), replace=False)
    texts, start = user_texts(vectors), 0
    for facet in training_set.spec.interest:
        found = training_set.user_interest[states, start : start + facet.dim]
        start += facet.dim
        if facet.name not in texts:
            continue
        matrix, of_row = texts[facet.name]
        user, time = training_set.user_row[of_row], training_set.timestamp_us[of_row]
        for row, got in zip(states, unit_rows(found), strict=True):
            mine = np.flatnonzero((user == training_set.user_row[row]) & (time < training_set.timestamp_us[row]))
            expected = np.zeros_like(got)
            if len(mine):
                expected = unit_rows(matrix[mine[[time[mine].argmax()]]])[0]
            if not np.allclose(got, expected, atol=1e-4):
                raise LeakError(
                    f"Row {row}'s {facet.name} is not of its user's last earlier moment.",
                    expected=f"one of {len(mine)} earlier texts" if len(mine) else "no text",
                    got="another vector",
                )


def _check_cold(training_set: TrainingSet) -> None:
    train = training_set.rows_of(Split.TRAIN)
    trained = np.unique(training_set.item_row[train])
    cold = np.unique(training_set.item_row[training_set.cold])
    both = np.intersect1d(trained, cold)
    if len(both):
        raise LeakError("A cold item has a train row.", got=f"{len(both)} items, the first in row {both[0]}")
    known = np.flatnonzero(training_set.item_fields[:, 0] > 0)
    strangers = np.setdiff1d(known, trained)
    if len(strangers):
        raise LeakError("The vocabulary knows items without a train row.", got=f"{len(strangers)} items")


def _check_counts(training_set: TrainingSet, num_sampled: int, seed: int) -> int:
    rng = np.random.default_rng(seed)
    rows = rng.choice(training_set.num_rows, min(num_sampled, training_set.num_rows), replace=False)
    is_train = training_set.split_code == SPLIT_CODES[Split.TRAIN]
    is_train = is_train & (np.arange(training_set.num_rows) < training_set.num_states)  # negatives are never known
    sides = (
        ("user", training_set.user_row, training_set.user_numeric[training_set.state_row[rows]], USER_NUMERIC[0]),
        ("item", training_set.item_row, training_set.item_numeric[rows], ITEM_NUMERIC[0]),
    )
    for side, entity, features, name in sides:
        names = training_set.spec.user_numeric if side == "user" else training_set.spec.item_numeric
        if name not in names:
            continue
        found = np.expm1(features[:, names.index(name)].astype(np.float64))
        for row, count in zip(rows, found, strict=True):
            earlier = is_train & (entity == entity[row])
            earlier &= training_set.timestamp_us < training_set.timestamp_us[row]
            if abs(earlier.sum() - count) > 1e-3 * max(1.0, count):
                raise LeakError(
                    f"Row {row}'s {name} does not count the {side}'s earlier train rows.",
                    expected=str(int(earlier.sum())),
                    got=f"{count:.3f}",
                )
    return len(rows)
