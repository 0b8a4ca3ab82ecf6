"""The model that new rows are held against: from the registry, and known to fit the features it will be given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lorefuse.core.atomic import sha256_file
from lorefuse.core.errors import UsageError
from lorefuse.core.schema import Alias
from lorefuse.core.step_cache import read_digest
from lorefuse.export.bundle import RANKER_FILE, Bundle
from lorefuse.export.session import open_session
from lorefuse.features.history import with_history
from lorefuse.registry.run import DATASET_TAG
from lorefuse.registry.version import BUNDLE_TAG, get_version
from lorefuse.training_set.arrays import TrainingSet

ROWS_AT_A_TIME = 8192
_FIX = "name the configuration that the champion was trained with, or train: lorefuse run"


def find_champion(model_name: str, dataset_path: Path) -> tuple[str, str]:
    """Return the champion's number and its bundle's digest; it must have been trained on this very dataset.

    Args:
        model_name: Registered model.
        dataset_path: The dataset that new rows are added to.

    Raises:
        UsageError: There is no champion, or it knows another dataset.
        UnreachableError: The registry does not answer.
    """
    entry = get_version(model_name, Alias.CHAMPION)
    digest = read_digest(dataset_path)
    if entry.tags.get(DATASET_TAG) != digest:
        raise UsageError(
            f"The champion, version {entry.version} of {model_name}, was trained on another dataset.",
            expected=f"the dataset of this configuration, sha256 {digest[:12]}",
            got=f"sha256 {str(entry.tags.get(DATASET_TAG))[:12]}",
            fix=_FIX,
        )
    return str(entry.version), str(entry.tags[BUNDLE_TAG])


def check_meaning(bundle: Bundle, feature_data_path: Path, vectors_path: Path) -> None:
    """Make sure that indices and vectors mean to the features what they mean to the model.

    Raises:
        UsageError: Vocabularies, prior or reducer differ from the model's.
    """
    folders = {
        "vocabularies.json": feature_data_path,
        "item_prior.safetensors": feature_data_path,
        "reducer.safetensors": vectors_path,
        "own_reducers.safetensors": vectors_path,
    }
    other = [
        name
        for name, folder in folders.items()
        if name in bundle.sha256
        and (not (folder / name).is_file() or sha256_file(folder / name) != bundle.sha256[name])
    ]
    if other:
        raise UsageError(
            "The champion was trained with other features than this configuration makes.",
            expected="equal " + ", ".join(folders),
            got="another " + ", ".join(other),
            fix=_FIX,
        )


def score(bundle: Bundle, training_set: TrainingSet, rows_R: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the scores that the served graph gives to some rows, float32 (R,).

    Args:
        bundle: The model.
        training_set: Rows with features as of their own time.
        rows_R: Which rows.
    """
    training_set = with_history(training_set, bundle.spec().history_length)
    session = open_session(bundle.path / RANKER_FILE)
    names = [entry.name for entry in session.get_inputs()]
    scores = []
    for start in range(0, len(rows_R), ROWS_AT_A_TIME):
        tensors = training_set.inputs(rows_R[start : start + ROWS_AT_A_TIME])
        scores.append(session.run(None, {name: tensors[name] for name in names})[0].reshape(-1))
    return np.concatenate([np.zeros(0, np.float32), *scores])
