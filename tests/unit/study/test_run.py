"""A whole study on a small world: numbers, resumption, page and MLflow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lorefuse.config import StudyConfig, TuningConfig
from lorefuse.contract import Split
from lorefuse.study.cell import judge_buckets
from lorefuse.study.report import write_study_report
from lorefuse.study.run import read_study_file, run_study
from lorefuse.study.track import track_study
from lorefuse.study.variants import make_variants
from lorefuse.training.metrics import judge
from tests.unit.training.samples import make_training_set, small_config

STUDY = StudyConfig(
    arms=("real", "none", "shuffled"),
    num_seeds=2,
    num_bootstraps=40,
    ndcg_k=3,
    num_catalogue_users=6,
    baselines=("sklearn_logistic", "sklearn_fm_sketch"),
)


@pytest.fixture
def rows_path(tmp_path: Path) -> Path:
    path = tmp_path / "rows"
    path.mkdir()
    make_training_set().save(path)
    return path


def study(rows_path: Path, out_path: Path) -> dict[str, Any]:
    config = small_config(study=STUDY, tuning=TuningConfig(num_trials=2))
    variants = make_variants(config, ["model.fusion=residual,concat"])
    return run_study(variants, [rows_path] * 2, out_path, num_workers=1)


def test_a_study_from_end_to_end(rows_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = study(rows_path, tmp_path / "out")
    assert read_study_file(tmp_path / "out") == json.loads(json.dumps(content))
    assert [entry["name"] for entry in content["variants"]] == ["model.fusion=residual", "model.fusion=concat"]
    assert content["best_by_validation"] in {entry["name"] for entry in content["variants"]}
    first = content["variants"][0]
    assert set(first["arms"]) == {"real", "none", "shuffled"}
    assert len(first["arms"]["real"]["auc_warm"]["values"]) == 2
    assert 0 < first["arms"]["real"]["coverage_at_3"]["mean"] <= 1
    assert first["verdicts"]["cold_user"].startswith("cannot be computed")
    gaps = [gap for entry in content["variants"] for by in entry["differences"].values() for gap in by.values()]
    assert content["num_comparisons"] == sum(gap["mean"] is not None for gap in gaps)

    assert [(entry["name"], entry["arm"]) for entry in content["baselines"]] == [
        (name, arm) for name in STUDY.baselines for arm in ("real", "none")
    ]
    assert all(0 < entry["metrics"]["auc_warm"] <= 1 for entry in content["baselines"])
    page = write_study_report(content, tmp_path / "out").read_text("utf-8")
    assert "model.fusion=concat" in page
    assert "sklearn_fm_sketch, C = " in page
    assert "https://" not in page.split("<script>")[0]

    from lorefuse.registry.tracking import connect

    url = track_study(content, small_config(study=STUDY), tmp_path / "out")
    client = connect()
    parent_id = url.rpartition("/")[2]
    experiment_id = client.get_run(parent_id).info.experiment_id
    children = client.search_runs([experiment_id], f"tags.`mlflow.parentRunId` = '{parent_id}'")
    assert len(children) == 6
    assert {run.data.params["arm"] for run in children} == {"real", "none", "shuffled"}
    assert all("auc_warm" in run.data.metrics for run in children)
    assert {file.path for file in client.list_artifacts(parent_id, "study")} == {"study/study.html", "study/study.json"}

    # a second run finds every cell finished: it would fail if it had to train
    monkeypatch.setattr("lorefuse.training.loop.fit", None)
    assert study(rows_path, tmp_path / "again") == content


def test_buckets_agree_with_the_pipelines_metrics() -> None:
    rows = make_training_set()
    test = rows.rows_of(Split.TEST)
    scores = np.random.default_rng(0).random(len(test)).astype(np.float32)
    mine = judge_buckets(rows, scores, StudyConfig(ndcg_k=3, recall_k=3))
    known = judge(rows.label[test], scores, rows.user_row[test], rows.cold[test], k=3, label_kind="binary")
    for name in ("auc", "gauc", "logloss", "ndcg_at_3", "recall_at_3"):
        for bucket, subset in (("all", "all"), ("warm", "warm"), ("cold_item", "cold")):
            assert mine[f"{name}_{bucket}"] == pytest.approx(known[f"{name}_{subset}"], nan_ok=True)
