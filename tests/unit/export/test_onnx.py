"""Exported graphs against torch: every batch size, excluded rows, ties, and a graph that was tampered with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from lorefuse.core.errors import ArtifactError
from lorefuse.export import retrieve
from lorefuse.export.candidates import export_candidates
from lorefuse.export.onnx import CatalogueGraph, export_catalogue_ranker, export_ranker
from lorefuse.export.parity import check_candidates, check_catalogue_ranker, check_ranker, score_difference
from lorefuse.export.session import open_session
from lorefuse.models.deepfm import DeepFM
from tests.unit.models.test_deepfm import BARE, SPEC, item_inputs, shaken, user_inputs

NUM_ITEMS, NUM_RETURNED, NUM_EXCLUDED = 30, 12, 25


@pytest.fixture(scope="module")
def model() -> DeepFM:
    return shaken(SPEC)


@pytest.fixture(scope="module")
def ranker_path(model: DeepFM, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ranker") / "ranker.onnx"
    export_ranker(model, {**user_inputs(2), **item_inputs(2)}, path)
    return path


@pytest.fixture(scope="module")
def catalogue_path(model: DeepFM, tmp_path_factory: pytest.TempPathFactory) -> Path:
    items = item_inputs(NUM_ITEMS)
    for name, value in items.items():  # items 20 to 29 are 10 to 19 again: ten ties
        items[name] = torch.cat([value[:20], value[10:20]])
    path = tmp_path_factory.mktemp("catalogue") / "catalogue_ranker.onnx"
    graph = CatalogueGraph(model, items, NUM_RETURNED)
    export_catalogue_ranker(graph, {**user_inputs(2), "exclude_rows": excluded(2)}, path)
    return path


def excluded(num_users: int, *rows: int) -> torch.Tensor:
    padded = [*rows, *[-1] * (NUM_EXCLUDED - len(rows))]
    return torch.tensor([padded] * num_users)


def ranked(path: Path, num_users: int, *rows: int) -> tuple[np.ndarray, np.ndarray]:
    inputs = {**user_inputs(num_users), "exclude_rows": excluded(num_users, *rows)}
    return tuple(open_session(path).run(None, {name: value.numpy() for name, value in inputs.items()}))


@pytest.mark.parametrize("num_rows", [1, 2, 7, 300])
def test_any_batch_size_scores_as_torch(model: DeepFM, ranker_path: Path, num_rows: int) -> None:
    inputs = {name: value.numpy() for name, value in {**user_inputs(num_rows), **item_inputs(num_rows)}.items()}
    report = check_ranker(ranker_path, model, inputs)
    assert report["num_reference_rows"] == num_rows
    assert report["max_score_difference"] <= 1e-5


@pytest.mark.parametrize("num_users", [1, 5])
def test_the_lower_row_comes_first_among_equals(catalogue_path: Path, num_users: int) -> None:
    rows, scores = ranked(catalogue_path, num_users)
    assert rows.shape == scores.shape == (num_users, NUM_RETURNED)
    for row, score in zip(rows, scores, strict=True):
        assert (np.diff(score) <= 0).all()
        ties = np.flatnonzero(np.diff(score) == 0)
        assert (row[ties] < row[ties + 1]).all()


def test_excluded_rows_do_not_come_back_and_leave_room(catalogue_path: Path) -> None:
    everything, _ = ranked(catalogue_path, 1)
    gone = everything[0, :3]
    rows, scores = ranked(catalogue_path, 1, *gone.tolist(), 999)  # 999 is no row: it excludes nothing
    assert not set(gone) & set(rows[0])
    assert (rows[0, : NUM_RETURNED - 3] == everything[0, 3:]).all()
    assert np.isfinite(scores).all()


def test_where_too_few_remain_minus_one_fills_up(catalogue_path: Path) -> None:
    rows, scores = ranked(catalogue_path, 1, *range(25))
    assert sorted(rows[0, :5]) == [25, 26, 27, 28, 29]
    assert (rows[0, 5:] == -1).all()
    assert np.isneginf(scores[0, 5:]).all()
    assert not np.isnan(scores).any()


def test_catalogue_ranker_agrees_with_brute_force(model: DeepFM, tmp_path: Path) -> None:
    items, users = item_inputs(NUM_ITEMS, seed=5), {**user_inputs(4), "exclude_rows": excluded(4, 3, 4)}
    export_catalogue_ranker(CatalogueGraph(model, items, NUM_RETURNED), users, tmp_path / "c.onnx")
    arrays = {name: value.numpy() for name, value in users.items()}
    report = check_catalogue_ranker(tmp_path / "c.onnx", model, items, arrays)
    assert report["identical_top"] == 1.0
    assert report["max_catalogue_difference"] <= 1e-5
    with pytest.raises(ArtifactError, match="differs from torch"):
        check_catalogue_ranker(tmp_path / "c.onnx", shaken(SPEC, embedding_dim=8), items, arrays)


@pytest.mark.parametrize(("num_users", "num_candidates"), [(1, 1), (1, 500), (2, 2), (5, 3)])
def test_candidates_score_as_rows_of_one_user_each(
    model: DeepFM, tmp_path: Path, num_users: int, num_candidates: int
) -> None:
    paths = tmp_path / "side.onnx", tmp_path / "candidates.onnx"
    export_candidates(model, {**user_inputs(2), **item_inputs(2)}, *paths)
    users, items = user_inputs(num_users, seed=7), item_inputs(num_candidates, seed=8)
    retrieve.write_item_side(paths[0], {name: value.numpy() for name, value in items.items()}, tmp_path / "side.npy")
    side = np.load(tmp_path / "side.npy", mmap_mode="r")
    (scores,) = open_session(paths[1]).run(
        None, {**{name: value.numpy() for name, value in users.items()}, "item_side": side}
    )
    repeated = {name: value.repeat_interleave(num_candidates, 0) for name, value in users.items()}
    with torch.no_grad():
        rows = {name: value.repeat(num_users, 1) for name, value in items.items()}
        expected = model.to_score(model(**repeated, **rows)).numpy().reshape(num_users, num_candidates)
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    inputs = {name: value.numpy() for name, value in {**user_inputs(4), **item_inputs(4)}.items()}
    assert check_candidates(*paths, model, inputs)["max_candidate_difference"] <= 1e-5
    other = shaken(SPEC)
    with torch.no_grad():
        other.bias.add_(1.0)
    with pytest.raises(ArtifactError, match="candidate ranker differs from torch"):
        check_candidates(*paths, other, inputs)


def test_a_table_is_written_in_parts(model: DeepFM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = tmp_path / "side.onnx", tmp_path / "candidates.onnx"
    export_candidates(model, {**user_inputs(2), **item_inputs(2)}, *paths)
    tables = {name: value.numpy() for name, value in item_inputs(23, seed=8).items()}
    retrieve.write_item_side(paths[0], tables, tmp_path / "whole.npy")
    monkeypatch.setattr(retrieve, "_ITEMS_PER_RUN", 10)
    retrieve.write_item_side(paths[0], tables, tmp_path / "parts.npy")
    whole, parts = (np.load(tmp_path / f"{name}.npy") for name in ("whole", "parts"))
    assert (whole.shape[0], whole.dtype) == (23, np.float32)
    np.testing.assert_allclose(parts, whole, atol=1e-6)


def test_a_model_of_ids_alone_exports(tmp_path: Path) -> None:
    model, inputs = shaken(BARE), {**user_inputs(3, BARE), **item_inputs(3, BARE)}
    export_ranker(model, inputs, tmp_path / "r.onnx")
    check_ranker(tmp_path / "r.onnx", model, {name: value.numpy() for name, value in inputs.items()})


def test_regression_scores_are_not_squashed(tmp_path: Path) -> None:
    model = shaken(BARE.model_copy(update={"label_kind": "regression"}))
    with torch.no_grad():
        model.bias.fill_(40.0)
    inputs = {name: value.numpy() for name, value in {**user_inputs(3, BARE), **item_inputs(3, BARE)}.items()}
    export_ranker(model, {name: torch.from_numpy(value) for name, value in inputs.items()}, tmp_path / "r.onnx")
    check_ranker(tmp_path / "r.onnx", model, inputs)
    assert (open_session(tmp_path / "r.onnx").run(None, inputs)[0] > 1).all()


def test_other_weights_are_noticed_with_the_number(ranker_path: Path) -> None:
    inputs = {name: value.numpy() for name, value in {**user_inputs(4), **item_inputs(4)}.items()}
    with pytest.raises(ArtifactError, match=r"differs from torch.*\n.*1e-05\n.*a difference of 0\.\d+"):
        check_ranker(ranker_path, shaken(SPEC, embedding_dim=8), inputs)


def test_the_file_names_nothing_of_the_machine_that_wrote_it(ranker_path: Path) -> None:
    data = ranker_path.read_bytes()
    assert b".py" not in data
    assert str(Path.cwd()).encode() not in data
    assert [entry.version for entry in onnx.load(str(ranker_path)).opset_import if not entry.domain] == [18]


def test_equal_models_have_equal_bytes(model: DeepFM, ranker_path: Path, tmp_path: Path) -> None:
    export_ranker(model, {**user_inputs(2), **item_inputs(2)}, tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == ranker_path.read_bytes()


def test_a_truncated_file_is_refused(ranker_path: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.onnx").write_bytes(ranker_path.read_bytes()[:500])
    with pytest.raises(ArtifactError, match="not a valid ONNX model"):
        open_session(tmp_path / "cut.onnx")


def test_score_difference_by_hand() -> None:
    assert score_difference(np.array([0.5, 4.0]), np.array([0.25, 5.0])) == 0.25
    assert score_difference(np.array([-np.inf, 1.0]), np.array([-np.inf, 1.0])) == 0
    assert score_difference(np.array([1.0]), np.array([np.nan])) == np.inf
    assert score_difference(np.array([1.0]), np.array([1.0, 1.0])) == np.inf
    assert score_difference(np.array([]), np.array([])) == 0
