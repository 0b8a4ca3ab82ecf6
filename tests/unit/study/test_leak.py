"""The leak check passes what is clean and names what is not."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lorefuse.config import NegativesConfig
from lorefuse.core.errors import ArtifactError, LeakError
from lorefuse.core.schema import Split
from lorefuse.feature_store.retrieve import retrieve_training_set
from lorefuse.feature_store.store import apply_and_materialize
from lorefuse.study.leak import check_leaks
from lorefuse.training_set.arrays import TrainingSet
from tests.helpers.feature_world import make_world


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    path = tmp_path_factory.mktemp("leak")
    world = make_world(path, negatives=NegativesConfig(num_train=1, num_eval=2))
    for name in ("store", "rows"):
        (path / name).mkdir()
    apply_and_materialize(world.feature_data_path, path / "store")
    retrieve_training_set(
        world.dataset, world.split_path, world.vectors, world.feature_data_path, path / "store", path / "rows"
    )
    return {"split": world.split_path, "feature_data": world.feature_data_path, "training_set": path / "rows"}


def test_clean_artifacts_pass(made: dict[str, Path]) -> None:
    facts = check_leaks(made, num_sampled=10_000)
    assert set(facts["cutoffs"]) == {"feature_data", "training_set"}
    assert facts["num_sampled"] == TrainingSet.load(made["training_set"]).num_rows


def test_a_later_cutoff_is_named(made: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "item_vectors.json").write_text(json.dumps({"data_cutoff": "2999-01-01"}), "utf-8")
    with pytest.raises(LeakError, match="vectors knows later data"):
        check_leaks({**made, "item_vectors": tmp_path})
    (tmp_path / "item_vectors.json").write_text("{}", "utf-8")
    with pytest.raises(ArtifactError, match="does not say"):
        check_leaks({**made, "item_vectors": tmp_path})


def _cold_item_trained(rows: TrainingSet) -> TrainingSet:
    item_row = rows.item_row.copy()
    item_row[rows.rows_of(Split.TRAIN)[0]] = rows.item_row[rows.cold][0]
    return dataclasses.replace(rows, item_row=item_row)


def _counts_the_row_itself(rows: TrainingSet) -> TrainingSet:
    numeric = rows.user_numeric.copy()
    numeric[:, 0] = np.log1p(np.expm1(numeric[:, 0]) + 1)
    return dataclasses.replace(rows, user_numeric=numeric)


def _counts_negatives(rows: TrainingSet) -> TrainingSet:
    numeric = rows.item_numeric.copy()
    numeric[rows.num_states :, 0] += 0.7
    return dataclasses.replace(rows, item_numeric=numeric)


def _knows_a_stranger(rows: TrainingSet) -> TrainingSet:
    fields = rows.item_fields.copy()
    fields[rows.item_row[rows.cold][0], 0] = 1
    return dataclasses.replace(rows, item_fields=fields)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_cold_item_trained, "cold item has a train row"),
        (_counts_the_row_itself, "user_log_count"),
        (_counts_negatives, "item_log_count"),
        (_knows_a_stranger, "without a train row"),
    ],
)
def test_arrays_that_know_too_much_are_named(
    made: dict[str, Path], tmp_path: Path, spoil: Callable[[TrainingSet], TrainingSet], message: str
) -> None:
    spoil(TrainingSet.load(made["training_set"])).save(tmp_path)
    with pytest.raises(LeakError, match=message):
        check_leaks({**made, "training_set": tmp_path}, num_sampled=10_000)
