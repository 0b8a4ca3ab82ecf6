"""What is decided, the page that says so, and its numbers in MLflow."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from lorefuse.config import DataConfig, DriftConfig, FileSource, PipelineConfig, load_config
from lorefuse.core.atomic import write_json
from lorefuse.core.schema import Split
from lorefuse.data.dataset import Dataset
from lorefuse.data.files import paths_of
from lorefuse.data.ingest import ingest
from lorefuse.drift.compare import compare
from lorefuse.drift.decay import judge_rows
from lorefuse.drift.refresh import decide, keep_preset
from lorefuse.drift.report import write_drift_report
from lorefuse.drift.sample import sample_of
from lorefuse.drift.track import refresh_metrics, track_refresh
from lorefuse.registry.tracking import connect
from tests.helpers.training_rows import make_training_set

CONFIG = PipelineConfig(drift=DriftConfig(num_bootstraps=20))
NEW = {"num_rows": 310, "num_new": 300, "num_duplicates": 10, "num_late": 2}


def _content(*, moved: bool) -> dict[str, Any]:
    rows = make_training_set()
    at = rows.rows_of(Split.TEST)
    known = sample_of(rows, at, rows.label[at] / 2)
    fresh = dataclasses.replace(known, score=known.score * 1.9 if known.score is not None else None)
    metrics = judge_rows(rows.label[at], rows.label[at] / 2, rows.user_row[at], "binary", CONFIG.drift)
    content: dict[str, Any] = {
        "name": "shop", "champion": "3", "new": NEW, "metrics": {"test": metrics, "fresh": metrics}, "decay": [],
        "drift": compare(known, fresh if moved else known, CONFIG.drift),
    }  # fmt: skip
    return {**content, **decide(content, 300, CONFIG)}


def test_drift_and_decay_train_again() -> None:
    content = _content(moved=True)
    assert content["retrain"]
    assert "the scores have drifted" in content["reasons"][0]
    decayed = {**_content(moved=False), "decay": ["AUC fell"]}
    assert decide(decayed, 300, CONFIG) == {
        "retrain": True,
        "reasons": ["AUC fell"],
        "notes": ["2 rows are older than what the model was trained on."],
    }


def test_what_is_not_heeded_is_noted() -> None:
    config = CONFIG.model_copy(update={"drift": DriftConfig(retrain_on=("decay",))})
    found = decide(_content(moved=True), 300, config)
    assert not found["retrain"]
    assert "the scores have drifted" in found["notes"][0]
    assert found["reasons"] == ["What passes a threshold is not heeded."]


def test_too_few_rows_decide_nothing() -> None:
    found = decide(_content(moved=True), 199, CONFIG)
    assert not found["retrain"]
    assert found["reasons"] == ["199 new rows decide nothing; drift.min_rows is 200."]
    nothing = {"drift": None, "decay": [], "new": {"num_duplicates": 12}}
    assert decide(nothing, 0, CONFIG)["reasons"] == ["There are no new rows; 12 are known already."]


def test_a_model_that_holds_is_kept() -> None:
    content = _content(moved=False)
    assert not content["retrain"]
    assert content["reasons"] == ["What passes a threshold is not heeded."] or content["reasons"] == [
        "Neither drift nor decay passes its threshold."
    ]


@pytest.mark.parametrize("moved", [True, False])
def test_the_page_says_all_of_it(tmp_path: Path, moved: bool) -> None:
    content = _content(moved=moved)
    page = write_drift_report(content, tmp_path).read_text("utf-8")
    assert ("Train again" in page) == moved
    assert ("Keep the model" in page) != moved
    for words in ("champion version 3", "user log count", "Unknown to the model", "Centroids", "num duplicates"):
        assert words in page
    figures = json.loads(page.split('id="figures">', 1)[1].split("</script>", 1)[0])
    assert {"features", "metrics", "score"} <= set(figures)
    assert 'data-figure="bins/' in page
    assert "http://" not in page.split("<script", 1)[0]


def test_a_page_without_new_rows(tmp_path: Path) -> None:
    content = {
        "name": "shop", "champion": "3", "new": {}, "metrics": {}, "drift": None, "retrain": False,
        "reasons": ["There are no new rows; 12 are known already."], "notes": [],
    }  # fmt: skip
    page = write_drift_report(content, tmp_path).read_text("utf-8")
    assert "There are no new rows" in page
    assert dict(refresh_metrics(content)) == {}


def test_a_refresh_is_logged_once(tmp_path: Path) -> None:
    content = _content(moved=True)
    folder_path = tmp_path / "refresh"
    write_json(folder_path / "refresh.json", content)
    url = track_refresh(content, CONFIG, folder_path, "d1")
    assert track_refresh(content, CONFIG, folder_path, "d1") == url
    client = connect()
    experiment = client.get_experiment_by_name(CONFIG.registry.experiment)
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.data.metrics["drift/drifted"] == 1
    assert run.data.metrics["new/num_new"] == 300
    assert run.data.metrics["drift/score/psi"] == pytest.approx(content["drift"]["score"]["psi"])
    assert run.data.metrics["fresh/auc"] == 1
    assert run.data.tags["lorefuse.retrain"] == "true"
    assert [entry.path for entry in client.list_artifacts(run.info.run_id, "refresh")] == ["refresh/refresh.json"]


def test_the_preset_of_a_grown_dataset_names_files_that_are_there(tmp_path: Path) -> None:
    merged = make_dataset(tmp_path / "merged")
    grown, preset_path = keep_preset(merged, CONFIG, tmp_path / "refresh")
    assert load_config(preset_path) == grown
    paths = paths_of(grown.data.source)  # type: ignore[arg-type]
    assert set(paths) == {"interactions_path", "items_path", "triples_path", "links_path"}
    assert all(path.is_file() and path.parent == preset_path.parent / "dataset" for path in paths.values())
    assert keep_preset(merged, CONFIG, tmp_path / "refresh") == (grown, preset_path)
    assert len(Dataset.open(preset_path.parent / "dataset").interactions()) == 2


def make_dataset(path: Path) -> Dataset:
    """Write a dataset of two rows with a graph."""
    source_path = path.with_name("raw")
    source_path.mkdir()
    for name, text in {
        "interactions": "user_id,item_id,rating,timestamp\nu1,i1,5,1600000000\nu1,i2,1,1600000001\n",
        "items": "item_id,title\ni1,Tea\ni2,Ice\n",
        "triples": "head,relation,tail\ne1,is,hot\n",
        "links": "item_id,entity_id\ni1,e1\n",
    }.items():
        (source_path / f"{name}.csv").write_text(text, "utf-8")
    files = {f"{name}_path": source_path / f"{name}.csv" for name in ("interactions", "items", "triples", "links")}
    path.mkdir()
    ingest(DataConfig(source=FileSource(**files)), path)
    return Dataset.open(path)
