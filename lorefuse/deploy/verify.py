"""Canary inference: a version is ready when its answers are right, not when Triton says so.

A dead Python stub leaves Triton's readiness true; only an inference tells.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lorefuse.core.errors import DeployError
from lorefuse.core.schema import ITEM_ID, USER_ID, Tensor
from lorefuse.deploy.control import Control
from lorefuse.export.model_repository import ModelRepository
from lorefuse.export.signature import (
    ANSWER,
    CATALOGUE_RANKER,
    FEATURES,
    LIKED_ITEM_ID,
    LIKED_TITLE,
    MODEL_VERSION,
    RANKER,
    RECOMMEND,
    RETRIEVE,
    K,
)
from lorefuse.export.version_files import FEATURES_FILE, REFERENCE_FILE
from lorefuse.export.wire import text_array

TOLERANCE = 1e-5
MIN_COMMON = 0.95
"""Share of the reference's items that a search must find again: other hardware may round a user's vector otherwise."""
NOBODY = "\x00nobody"
"""A user_id that no data set can hold."""
NUM_TIMINGS = 10
PROBE_TIMEOUT_S = 2.0


def verify_ready(
    url: str, repository: ModelRepository, version: int, *, front: str | None = RECOMMEND
) -> dict[str, Any]:
    """Ask every model of a version for answers that are known.

    Args:
        url: gRPC address of Triton.
        repository: Model repository; the references travel with each version.
        version: The version to check.
        front: Also check this front, which must answer with this version; None checks the parts alone.

    Returns:
        max_score_difference and, where there is a front, latency_ms (median of ten recommendations).

    Raises:
        DeployError: A model does not answer, or answers wrongly; the message names it.
    """
    control = Control(url)
    ranker = _reference(repository, RANKER, version)
    ranking = RETRIEVE if repository.retrieves(version) else CATALOGUE_RANKER
    catalogue = _reference(repository, ranking, version)
    if ranking == RETRIEVE:
        difference = _check_retrieve(control, catalogue, version)
    else:
        difference = _check_catalogue_ranker(control, catalogue, version)
    difference = max(difference, _check_ranker(control, ranker, version))
    features = _check_features(control, version)
    _check_users(control, repository, version)
    _check_answer(control, repository, version, len(catalogue[Tensor.CATALOGUE_ROW.value][0]))
    report: dict[str, Any] = {"max_score_difference": difference}
    if front is not None:
        report["latency_ms"] = _check_front(control, front, ranking, features, version)
    return report


def probe(url: str, versions: Collection[int], num_at_once: int) -> None:
    """Ask `recommend`, once and then several times at once; each answer must come from one of these versions.

    Args:
        url: gRPC address of Triton.
        versions: Those that may answer.
        num_at_once: Requests at the same time, after a single one. That one always meets the same instance of a
            model; the others are given work only while it is busy, and may be dead.

    Raises:
        DeployError: One is not answered, or by another version.
    """
    control = Control(url)

    def ask(_: int) -> None:
        got = control.infer(RECOMMEND, {USER_ID: text_array(NOBODY)}, timeout_s=PROBE_TIMEOUT_S)
        version = got[MODEL_VERSION][0, 0].decode()
        if version not in {str(known) for known in versions}:
            raise DeployError(
                f"{RECOMMEND} answers with another version.", expected=" or ".join(map(str, versions)), got=version
            )

    ask(0)
    with ThreadPoolExecutor(num_at_once) as pool:
        list(pool.map(ask, range(num_at_once)))  # raises what one of them raised


def median_latency_ms(control: Control, front: str) -> float:
    """Return the median of ten recommendations to somebody without a history, in milliseconds."""
    timings = []
    for _ in range(NUM_TIMINGS):
        start_s = time.perf_counter()
        control.infer(front, {USER_ID: text_array(NOBODY)})
        timings.append((time.perf_counter() - start_s) * 1000)
    return round(float(np.median(timings)), 2)


def _reference(repository: ModelRepository, name: str, version: int) -> dict[str, NDArray[Any]]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    path = repository.folder(name, version) / REFERENCE_FILE
    try:
        arrays: dict[str, NDArray[Any]] = load_file(str(path))
    except (OSError, SafetensorError) as error:
        raise DeployError(f"Version {version} carries no reference.", expected=str(path), got=str(error)) from None
    return arrays


def _check_ranker(control: Control, reference: dict[str, NDArray[Any]], version: int) -> float:
    expected = reference.pop(Tensor.SCORE.value)
    got = control.infer(RANKER, reference, version)[Tensor.SCORE.value].reshape(-1)
    return _hold(RANKER, version, expected, got)


def _check_catalogue_ranker(control: Control, reference: dict[str, NDArray[Any]], version: int) -> float:
    outputs = (Tensor.CATALOGUE_ROW.value, Tensor.SCORE.value)
    inputs = {name: array for name, array in reference.items() if name not in outputs}
    got = control.infer(CATALOGUE_RANKER, inputs, version)
    expected_rows, got_rows = reference[outputs[0]], got[outputs[0]]
    # Equal scores within the tolerance may change places; the k-th best score may not differ.
    if expected_rows.shape != got_rows.shape or ((expected_rows < 0) != (got_rows < 0)).any():
        raise DeployError(f"{CATALOGUE_RANKER} {version} returned other rows than torch.", got=str(got_rows.shape))
    return _hold(CATALOGUE_RANKER, version, reference[outputs[1]], got[outputs[1]])


def _check_retrieve(control: Control, reference: dict[str, NDArray[Any]], version: int) -> float:
    """Hold the scores of what was found to the reference; at its edge a search may find another item."""
    expected_rows, expected = reference[Tensor.CATALOGUE_ROW.value], reference[Tensor.SCORE.value]
    known = (Tensor.CATALOGUE_ROW.value, Tensor.SCORE.value)
    inputs = {name: array for name, array in reference.items() if name not in known}
    # What indexes find reads likes alone; their references hold no other past.
    inputs.setdefault(Tensor.SEEN_ROWS.value, inputs[Tensor.LIKED_ROWS.value])
    got = control.infer(RETRIEVE, inputs, version)
    rows, scores = got[Tensor.CATALOGUE_ROW.value], got[Tensor.SCORE.value]
    if rows.shape != expected_rows.shape or ((rows < 0) != (expected_rows < 0)).any():
        raise DeployError(f"{RETRIEVE} {version} returned other rows than torch.", got=str(rows.shape))
    common = [np.intersect1d(*pair, return_indices=True)[1:] for pair in zip(rows, expected_rows, strict=True)]
    # Padding is one row to the intersection, however often it stands there.
    found = sum(int((rows[user, here] >= 0).sum()) for user, (here, _) in enumerate(common))
    share = found / max(1, int((expected_rows >= 0).sum()))
    if share < MIN_COMMON:
        raise DeployError(
            f"{RETRIEVE} {version} finds other items than its reference.",
            expected=f"at least {MIN_COMMON:.0%} of them",
            got=f"{share:.0%}",
        )
    pairs = [(expected[user, there], scores[user, here]) for user, (here, there) in enumerate(common)]
    return max(_hold(RETRIEVE, version, *pair) for pair in pairs)


def _check_features(control: Control, version: int) -> dict[str, NDArray[Any]]:
    got = control.infer(FEATURES, {USER_ID: text_array(NOBODY)}, version)
    if got[Tensor.USER_FIELDS.value].any():
        raise DeployError(f"{FEATURES} {version} knows a user who does not exist.", got=str(got))
    return got


def _check_users(control: Control, repository: ModelRepository, version: int) -> None:
    """Hold what is served of some users to what training had of them."""
    path = repository.folder(FEATURES, version) / FEATURES_FILE
    facts: dict[str, Any] = json.loads(path.read_text("utf-8"))
    users = facts.get("reference_users", [])  # versions of older releases carry none
    if not users:
        return
    ids = np.array([[user[USER_ID].encode()] for user in users], dtype=np.object_)
    got = control.infer(FEATURES, {USER_ID: ids}, version)[Tensor.USER_FIELDS.value]
    wrong = [user for user, fields in zip(users, got.tolist(), strict=True) if user["fields"] != fields]
    if wrong:
        raise DeployError(
            f"{FEATURES} {version} serves other users than it was trained on.",
            expected=f"user {wrong[0][USER_ID]}: {wrong[0]['fields']}",
            got=f"{got.tolist()[users.index(wrong[0])]}; {len(wrong)} of {len(users)} users differ",
            fix="make the features of this version anew: lorefuse run",
        )


def _check_answer(control: Control, repository: ModelRepository, version: int, num_returned: int) -> None:
    facts = repository.answer(version)
    inputs: dict[str, NDArray[Any]] = {
        Tensor.CATALOGUE_ROW.value: np.arange(num_returned, dtype=np.int64)[None],
        Tensor.SCORE.value: np.zeros((1, num_returned), dtype=np.float32),
        K: np.array([[num_returned]], dtype=np.int32),
        LIKED_ITEM_ID: text_array(facts["item_ids"][0]),
    }
    got = control.infer(ANSWER, inputs, version)
    ids = [item_id.decode() for item_id in got[ITEM_ID][0]]
    if ids != facts["item_ids"][:num_returned] or got[LIKED_TITLE][0, 0].decode() != facts["titles"][0]:
        raise DeployError(f"{ANSWER} {version} names other items than the catalogue.", got=str(ids[:5]))


def _check_front(control: Control, front: str, ranking: str, features: dict[str, NDArray[Any]], version: int) -> float:
    past = () if ranking == RETRIEVE else (Tensor.LIKED_ROWS.value, Tensor.SEEN_ROWS.value)
    inputs = {name: array for name, array in features.items() if name not in (K, LIKED_ITEM_ID, *past)}
    best = control.infer(ranking, inputs, version)[Tensor.SCORE.value]
    got = control.infer(front, {USER_ID: text_array(NOBODY)})
    if got[MODEL_VERSION][0, 0].decode() != str(version):
        raise DeployError(f"{front} answers with another version.", expected=str(version), got=str(got[MODEL_VERSION]))
    scores = got[Tensor.SCORE.value]
    _hold(front, version, best[:, : scores.shape[1]], scores)
    return median_latency_ms(control, front)


def _hold(name: str, version: int, expected: NDArray[Any], got: NDArray[Any]) -> float:
    worst = float("inf")
    if expected.shape == got.shape and not np.isnan(got).any():
        with np.errstate(invalid="ignore"):
            difference = np.where(expected == got, 0, np.abs(expected - got) / np.maximum(1, np.abs(expected)))
        worst = float(difference.max(initial=0.0))
    if not worst <= TOLERANCE:
        raise DeployError(
            f"{name} {version} answers wrongly.",
            expected=f"the reference scores within {TOLERANCE:g}",
            got=f"shape {got.shape} for {expected.shape}, a difference of {worst:.3g}",
        )
    return worst
