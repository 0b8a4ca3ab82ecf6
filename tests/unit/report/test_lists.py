from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lorefuse.core.atomic import write_json
from lorefuse.registry.gate import against_popularity
from lorefuse.registry.lineage import list_metrics, list_tags
from lorefuse.report.build import build_report
from lorefuse.report.lists import list_order, list_rows, list_title, list_verdicts
from tests.helpers import artifacts

METRICS = ("ndcg_at_10", "recall_at_20", "mrr_at_10", "hit_rate_at_10")


def judged(mean: float, cold: float | None = 0.05) -> dict[str, Any]:
    metrics = {}
    for subset, value in (("warm", mean), ("cold", cold), ("all", mean)):
        ends = {} if value is None else {"low": value - 0.01, "high": value + 0.01}
        metrics |= {
            f"{name}_{subset}": {"mean": value, "low": None, "high": None, "num_users": 9} | ends for name in METRICS
        }
    return {"metrics": metrics, "coverage": 0.25, "novelty": 3.5}


def lists_content(popularity_gain: float = 0.08) -> dict[str, Any]:
    gains = {}
    for name, mean in (("popularity", popularity_gain), ("ease", 0.02), ("none", -0.003)):
        entry = {"mean": mean, "low": mean - 0.01, "high": mean + 0.01}
        gains[name] = {f"{metric}_{subset}": entry for metric in METRICS for subset in ("warm", "cold", "all")}
    return {
        "k": 10,
        "recall_k": 20,
        "num_users": 9,
        "lists": {
            "none": judged(0.16, None),
            "served": judged(0.165),
            "popularity": judged(0.085),
            "ease": judged(0.145),
        },
        "gains": gains,
        "verdicts": {"warm": "no evidence", "cold": "helped", "all": "helped"},
        "settings": {"ease": "λ 200, half-life 30"},
    }


def test_the_served_list_comes_first_with_what_it_is_compared_with() -> None:
    content = lists_content()
    assert list_order(content) == ["served", "popularity", "ease", "none"]
    rows = {row["name"]: row for row in list_rows(content)}
    assert list(rows)[2] == "EASE (λ 200, half-life 30)"
    assert rows["served"]["cells"][0] == {
        "text": "0.1650", "spread": "", "title": "95 % interval [0.1550, 0.1750], 9 users", "best": True,
    }  # fmt: skip
    assert rows["popularity"]["gain"] == {"text": "+0.0800 [+0.0700, +0.0900]", "tone": "good"}
    assert rows[list_title("none")]["gain"]["tone"] == "neutral"
    assert rows[list_title("none")]["cells"][3]["text"] == "–"


def test_verdicts_speak_of_the_list() -> None:
    lines = {line["temperature"]: line for line in list_verdicts(lists_content())}
    assert lines["warm"] == {
        "temperature": "warm", "verdict": "no evidence", "number": "NDCG@10 -0.0030 [-0.0130, +0.0070]",
    }  # fmt: skip


def test_the_page_begins_with_the_list(tmp_path: Path) -> None:
    write_json(tmp_path / "lists.json", lists_content())
    inputs = {
        "evaluation_path": artifacts.make_evaluation(tmp_path / "evaluation"),
        "dataset_path": artifacts.make_dataset(tmp_path / "dataset"),
        "split_path": artifacts.make_split(tmp_path / "split"),
    }
    facts = build_report(**inputs, config=artifacts.CONFIG, out_path=tmp_path / "out", lists_path=tmp_path)
    page = Path(facts["path"]).read_text("utf-8")
    assert facts["num_figures"] == 8
    assert page.index("The list that is served") < page.index("Scores of rows that users rated")
    assert 'data-figure="lists"' in page
    without = build_report(
        **inputs, config=artifacts.CONFIG, out_path=tmp_path / "bare", lists_path=tmp_path / "dataset"
    )
    assert "The list that is served" not in Path(without["path"]).read_text("utf-8")


def test_the_gate_refuses_a_list_below_popularity() -> None:
    assert against_popularity(None) is None
    assert against_popularity(lists_content()) is None
    assert against_popularity(lists_content(-0.005)) is None, "zero lies inside the interval"
    refusal = against_popularity(lists_content(-0.05))
    assert refusal is not None
    assert not refusal.promoted
    assert refusal.reason == (
        "refused: the list is worse than popularity: ndcg_at_10_warm 0.1650, -0.0500 [-0.0600, -0.0400]"
    )


@pytest.mark.parametrize(
    "name", ["list_ndcg_at_10_warm", "lists/served_minus_ease/ndcg_at_10_warm_low", "list_coverage"]
)
def test_mlflow_gets_the_figures(name: str) -> None:
    figures = list_metrics(lists_content())
    assert name in figures
    assert "lists/none/ndcg_at_10_cold" not in figures, "what is undefined stays away"
    assert not any("@" in key or " " in key for key in figures)
    tags = list_tags(lists_content())
    assert tags["lorefuse.list_ndcg"] == "0.1650"
    assert tags["lorefuse.list_minus_popularity"] == "+0.0800 [+0.0700, +0.0900]"
