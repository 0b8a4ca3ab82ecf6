"""The champion that new rows are held against must be the one of this dataset and of these features."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lorefuse.config import DeepFMConfig
from lorefuse.core.atomic import sha256_file
from lorefuse.core.errors import UsageError
from lorefuse.core.schema import Split
from lorefuse.drift.champion import check_meaning, find_champion, score
from lorefuse.export.bundle import Bundle
from lorefuse.export.onnx import RankerGraph, export_ranker
from lorefuse.models.build import build_ranker
from lorefuse.training.train import score_rows
from tests.helpers.training_rows import make_training_set


def test_without_a_champion_there_is_nothing_to_judge(tmp_path: Path) -> None:
    (tmp_path / "dataset").mkdir()
    with pytest.raises(UsageError, match="no version or alias champion"):
        find_champion("lorefuse-ranker", tmp_path / "dataset")


def test_features_of_another_meaning_are_refused(tmp_path: Path) -> None:
    names = ("vocabularies.json", "item_prior.safetensors", "reducer.safetensors")
    for name in names:
        (tmp_path / name).write_text(name, "utf-8")
    bundle = Bundle(tmp_path, {name: sha256_file(tmp_path / name) for name in names}, "")
    check_meaning(bundle, tmp_path, tmp_path)
    (tmp_path / "vocabularies.json").write_text("{}", "utf-8")
    with pytest.raises(UsageError, match="other features") as caught:
        check_meaning(bundle, tmp_path, tmp_path)
    assert caught.value.got == "another vocabularies.json"
    without_text = Bundle(tmp_path, {name: bundle.sha256[name] for name in names[1:2]}, "")
    check_meaning(without_text, tmp_path, tmp_path)


def test_the_served_graph_scores_rows_as_torch_does(tmp_path: Path) -> None:
    import torch

    rows = make_training_set()
    ranker = build_ranker(DeepFMConfig(embedding_dim=4, hidden_dims=(8,)), rows.spec, seed=0)
    ranker.prepare(rows)
    ranker.eval()
    example = {name: torch.from_numpy(array) for name, array in rows.inputs(np.arange(4)).items()}
    assert set(RankerGraph(ranker).input_names) == set(example)
    export_ranker(ranker, example, tmp_path / "ranker.onnx")
    rows.spec.save(tmp_path)
    at = rows.rows_of(Split.TEST)
    found = score(Bundle(tmp_path, {}, ""), rows, at)
    assert found == pytest.approx(score_rows(ranker, rows, at), abs=1e-6)
    assert score(Bundle(tmp_path, {}, ""), rows, at[:0]).shape == (0,)
