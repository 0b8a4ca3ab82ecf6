from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lorefuse.core.atomic import write_json
from lorefuse.core.errors import ArtifactError
from lorefuse.report import tables
from lorefuse.report.build import build_report
from lorefuse.report.figures import build_figures, metric_title
from lorefuse.training.evaluation import by_arm, verdict_lines, verdict_text
from tests.helpers import artifacts
from tests.helpers.browser import opened, without_chromium


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, Path]:
    return {
        "evaluation_path": artifacts.make_evaluation(tmp_path / "evaluation"),
        "dataset_path": artifacts.make_dataset(tmp_path / "dataset"),
        "split_path": artifacts.make_split(tmp_path / "split"),
    }


def _build(inputs: dict[str, Path], out_path: Path) -> tuple[dict[str, Any], str]:
    facts = build_report(**inputs, config=artifacts.CONFIG, out_path=out_path)
    return facts, Path(facts["path"]).read_text("utf-8")


def test_the_report_says_whether_knowledge_helped(inputs: dict[str, Path], tmp_path: Path) -> None:
    facts, page = _build(inputs, tmp_path / "out")
    assert facts["num_figures"] == 7
    assert facts["size_bytes"] < 6_000_000
    assert "Knowledge helped" in page
    assert "No evidence either way" in page
    assert "+0.0300 [+0.0240, +0.0360]" in page
    assert "interactions: unknown item_id" in page
    assert "4 tuning trials an arm" in page
    assert "embedding_dim: 16" in page
    assert set(artifacts.read_json(tmp_path / "out" / "figures.json")) >= {
        "roc",
        "calibration",
        "learning",
        "tuning",
    }


def test_nothing_is_loaded_from_elsewhere(inputs: dict[str, Path], tmp_path: Path) -> None:
    _, page = _build(inputs, tmp_path / "out")
    own = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    assert not re.findall(r"""(?:src|href)=["']?(?:https?:)?//""", own)
    assert "@import" not in own


def test_the_same_inputs_give_the_same_bytes(inputs: dict[str, Path], tmp_path: Path) -> None:
    assert _build(inputs, tmp_path / "one")[1] == _build(inputs, tmp_path / "two")[1]


def test_names_from_the_data_cannot_break_out(inputs: dict[str, Path], tmp_path: Path) -> None:
    evil = "</script><script>alert(1)</script>"
    manifest = artifacts.read_json(inputs["dataset_path"] / "manifest.json")
    write_json(
        inputs["dataset_path"] / "manifest.json", manifest | {"quarantined": {evil: 1}, "source": {"kind": evil}}
    )
    history = artifacts.read_json(inputs["evaluation_path"] / "history.json")
    write_json(inputs["evaluation_path"] / "history.json", {evil: history["real"]})
    _, page = _build(inputs, tmp_path / "out")
    assert evil not in page


@pytest.mark.parametrize("name", ["metrics.json", "history.json", "trials.json", "user_scores.parquet"])
def test_a_missing_or_truncated_input_is_named(inputs: dict[str, Path], tmp_path: Path, name: str) -> None:
    path = inputs["evaluation_path"] / name
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(ArtifactError, match=re.escape(name)):
        _build(inputs, tmp_path / "out")
    path.unlink()
    with pytest.raises(ArtifactError, match=re.escape(name)):
        _build(inputs, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_regression_without_control_or_tuning_has_a_report_too(inputs: dict[str, Path], tmp_path: Path) -> None:
    entry = {"mean": 0.9, "std": 0.0, "values": [0.9]}
    arms = {"real": {"test": {"rmse_all": entry, "rmse_cold": {"mean": None, "std": None, "values": []}}}}
    metrics = {"k": 10, "label_kind": "regression", "seeds": [0], "splits": {"per_user_time": {"arms": arms}}}
    write_json(inputs["evaluation_path"] / "metrics.json", metrics)
    for name in ("history", "trials"):
        write_json(inputs["evaluation_path"] / f"{name}.json", {})
    scores = artifacts.make_scores(1.0)
    scores.assign(label=scores["label"] * 3 + 1).to_parquet(inputs["evaluation_path"] / "user_scores.parquet")
    facts, page = _build(inputs, tmp_path / "out")
    assert set(artifacts.read_json(tmp_path / "out" / "figures.json")) == {"calibration", "scores"}
    assert facts["verdict"] == []
    assert "No control was run" in page
    assert "RMSE ↓" in page
    assert "not tuned" in page


def test_tables_mark_the_best_and_what_is_significant() -> None:
    def entry(mean: float) -> dict[str, Any]:
        return {"mean": mean, "std": 0.001, "values": [mean, mean]}

    content = {
        "arms": {
            "none": {"test": {"auc_warm": entry(0.79), "logloss_warm": entry(0.57)}},
            "real": {"test": {"auc_warm": entry(0.80), "logloss_warm": entry(0.56)}},
        },
        "differences": {
            "none": {
                "auc_warm": {"mean": 0.01, "low": 0.004, "high": 0.016},
                "logloss_warm": {"mean": -0.01, "low": -0.02, "high": -0.002},
            }
        },
    }
    auc, logloss = tables.metric_rows(content, "test")
    assert [cell["text"] for cell in auc["cells"]] == ["0.8000 ± 0.0010", "0.7900 ± 0.0010"]  # real stands first
    assert [cell["best"] for cell in auc["cells"]] == [cell["best"] for cell in logloss["cells"]] == [True, False]
    assert auc["difference"] == {"text": "+0.0100 [+0.0040, +0.0160]", "tone": "good"}
    assert logloss["difference"]["tone"] == "good"  # lower is better
    content["differences"]["none"]["auc_warm"] = {"mean": -0.01, "low": -0.02, "high": -0.001}
    assert tables.metric_rows(content, "test")[0]["difference"]["tone"] == "bad"
    content["differences"]["none"]["auc_warm"] = {"mean": 0.01, "low": -0.02, "high": 0.03}
    assert tables.metric_rows(content, "test")[0]["difference"]["tone"] == "neutral"


def test_words() -> None:
    metrics = artifacts.make_metrics()
    assert [line["verdict"] for line in verdict_lines(metrics, "per_user_time")] == ["no evidence", "helped"]
    assert "cold items: helped (AUC +0.0300 [+0.0240, +0.0360])" in verdict_text(metrics, "per_user_time")
    assert metric_title("ndcg_at_10") == "NDCG@10"
    assert metric_title("recall_at_10") == "Recall@10"
    assert tables.budget_text({"real": [{"number": 0}], "none": []}) == "tuning trials: real 1, none 0"
    assert list(by_arm({"s": {"real": [{"epoch": 1}]}, "none": [{"epoch": 1}]}, "epoch")) == ["s/real", "none"]


def test_a_gain_points_right_also_where_lower_is_better() -> None:
    metrics = artifacts.make_metrics()
    figure = build_figures(metrics, {}, {}, artifacts.make_scores(1.0))["differences_per_user_time"]
    points = dict(zip(figure.data[0].y, figure.data[0].x, strict=True))
    assert points["Log loss, cold (sign turned)"] == pytest.approx(points["AUC, cold"]) == pytest.approx(0.03)


def test_importing_the_room_pulls_in_nothing_heavy() -> None:
    code = "import sys, lorefuse.report.build; print([m for m in ('plotly', 'pandas', 'jinja2') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.browser
@without_chromium
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_draws_every_plot_without_errors_or_requests(
    inputs: dict[str, Path], tmp_path: Path, scheme: str
) -> None:
    facts, _ = _build(inputs, tmp_path / "out")
    with opened(Path(facts["path"]), scheme) as found:
        drawn = found.page.evaluate(
            "[...document.querySelectorAll('[data-figure]')].map(p => "
            "[p.dataset.figure, p.querySelectorAll('.trace, .bars .point').length, p.getBoundingClientRect().width])"
        )
        overflow = found.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        wide = found.page.evaluate(
            "[...document.querySelectorAll('.scroll')].filter(one => one.scrollWidth > one.clientWidth)"
            ".map(one => one.innerText.slice(0, 100))"
        )
    assert wide == [], "tables that a laptop's page cuts off"
    assert found.complaints == []
    assert [url for url in found.requests if not url.startswith(("file:", "data:"))] == []
    assert len(drawn) == facts["num_figures"]
    assert all(traces > 0 and width > 200 for _, traces, width in drawn), json.dumps(drawn)
    assert overflow <= 0
