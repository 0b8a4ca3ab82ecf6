"""A whole study on a small world: numbers, resumption, page and MLflow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lorefuse.config import StudyConfig, TuningConfig
from lorefuse.config.candidates import CandidatesConfig
from lorefuse.core.schema import Split
from lorefuse.study.cell import judge_buckets
from lorefuse.study.report import write_study_report
from lorefuse.study.run import STUDY_FILE, run_study
from lorefuse.study.track import track_study
from lorefuse.study.variants import make_variants
from lorefuse.training.metrics import judge
from tests.helpers.taste_rows import write_embeddings
from tests.helpers.training_rows import make_training_set, small_config

STUDY = StudyConfig(
    arms=("real", "none", "shuffled"),
    num_seeds=2,
    num_bootstraps=40,
    ndcg_k=3,
    num_catalogue_users=6,
    baselines=("sklearn_logistic", "sklearn_fm_sketch"),
)


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    rows, path = make_training_set(), tmp_path / "rows"
    path.mkdir()
    rows.save(path)
    return {"training_set": path, "embeddings": write_embeddings(rows, tmp_path / "embeddings")}


def study(folders: dict[str, Path], out_path: Path) -> dict[str, Any]:
    config = small_config(study=STUDY, tuning=TuningConfig(num_trials=2))
    variants = make_variants(config, ["model.fusion=residual,concat"])
    return run_study(variants, [folders] * 2, out_path, num_workers=1)


def test_a_study_from_end_to_end(folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = study(folders, tmp_path / "out")
    assert json.loads((tmp_path / "out" / STUDY_FILE).read_text("utf-8")) == json.loads(json.dumps(content))
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
    assert list(content["lists"]) == [entry["name"] for entry in content["variants"]]
    judged = content["lists"]["model.fusion=residual"]
    others = [name for name in ("with the ranker", "without the ranker") if name in judged["lists"]]
    assert others, "the served list is judged with the other order too"
    assert list(judged["lists"]) == ["served", *others, "popularity", "item_knn", "ease", "none", "shuffled"]
    assert "blend" in judged["settings"]["served"]
    ndcg = judged["lists"]["served"]["metrics"]["ndcg_at_10_warm"]
    assert ndcg["mean"] == pytest.approx(np.mean(ndcg["values"]))
    assert len(ndcg["values"]) == 2
    assert "values" not in judged["lists"]["popularity"]["metrics"]["ndcg_at_10_warm"]
    gain = judged["gains"]["popularity"]["ndcg_at_10_warm"]
    popularity = judged["lists"]["popularity"]["metrics"]["ndcg_at_10_warm"]
    assert gain["mean"] == pytest.approx(ndcg["mean"] - popularity["mean"])

    page = write_study_report(content, tmp_path / "out").read_text("utf-8")
    assert page.index("Verdicts on the list") < page.index("All variants")
    assert "± " in page.split("All variants")[0]
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
    assert all("list_ndcg_at_10_warm_std" in run.data.metrics for run in children)
    parent = client.get_run(parent_id).data
    best = content["lists"][content["best_by_validation"]]
    value = best["gains"]["ease"]["ndcg_at_10_warm"]["mean"]
    assert parent.metrics["lists/served_minus_ease/ndcg_at_10_warm"] == pytest.approx(value)
    assert parent.tags["verdict.list_warm"] == best["verdicts"]["warm"]
    assert {file.path for file in client.list_artifacts(parent_id, "study")} == {"study/study.html", "study/study.json"}

    # a second run finds every cell finished: it would fail if it had to train
    monkeypatch.setattr("lorefuse.training.loop.fit", None)
    monkeypatch.setattr("lorefuse.lists.run.fit", None)
    assert study(folders, tmp_path / "again") == content


def test_without_candidates_there_is_no_list(folders: dict[str, Path], tmp_path: Path) -> None:
    section = STUDY.model_copy(update={"arms": ("real", "none"), "num_seeds": 1, "baselines": ()})
    config = small_config(study=section, tuning=TuningConfig(num_trials=1), candidates=CandidatesConfig(mode="none"))
    content = run_study(make_variants(config, []), [folders], tmp_path / "out", num_workers=1)
    assert content["lists"] == {}
    page = write_study_report(content, tmp_path / "out").read_text("utf-8")
    assert "The list that is served" not in page


def test_buckets_agree_with_the_pipelines_metrics() -> None:
    rows = make_training_set()
    test = rows.rows_of(Split.TEST)
    scores = np.random.default_rng(0).random(len(test)).astype(np.float32)
    mine = judge_buckets(rows, scores, StudyConfig(ndcg_k=3, recall_k=3))
    known = judge(rows.label[test], scores, rows.user_row[test], rows.cold[test], k=3, label_kind="binary")
    for name in ("auc", "gauc", "logloss", "ndcg_at_3", "recall_at_3"):
        for bucket, subset in (("all", "all"), ("warm", "warm"), ("cold_item", "cold")):
            assert mine[f"{name}_{bucket}"] == pytest.approx(known[f"{name}_{subset}"], nan_ok=True)
