"""The section on the race: who won, what each reached, and who was stopped, failed or not tried."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lorefuse.core.atomic import write_json
from lorefuse.report.build import build_report
from lorefuse.report.race import race_section
from tests.helpers import artifacts


def _rung(share: float, state: str, score: float | None = None, error: str = "") -> dict[str, Any]:
    figures = {} if score is None else {"auc_warm": score + 0.01, "auc_cold": score - 0.01}
    return {"share": share, "state": state, "score": score, "train_s": 2.0, "figures": figures, "error": error}


def race() -> dict[str, Any]:
    """A race of four."""
    rungs = {
        "din": [_rung(0.5, "done", 0.7), _rung(1.0, "done", 0.8)],
        "deepfm": [_rung(0.5, "done", 0.75), _rung(1.0, "done", 0.79)],
        "linear": [_rung(0.5, "done", 0.6)],
        "broken": [_rung(0.5, "failed", error="DivergedError: <b>the loss</b>")],
    }
    return {
        "asked": "0", "auto": {"budget_s": 600.0, "seed": 0, "fixed": []}, "chosen": "din", "score": 0.8,
        "why": "best of 2 on the validation rows of 100% of the users", "elapsed_s": 123.4, "config": {},
        "sequence": {"taken": True, "why": "judged", "gain": {"mean": 0.01, "low": 0.002, "high": 0.02}},
        "configurations": [
            {"name": name, "about": f"about {name}", "evidence": "section 1", "settings": {}, "rungs": entries}
            for name, entries in rungs.items()
        ],
    }  # fmt: skip


def test_the_winner_stands_first_and_losers_where_they_fell() -> None:
    section = race_section(race())
    assert [row["name"] for row in section["rows"]] == ["din", "deepfm", "linear", "broken"]
    assert section["columns"] == ["50% of the users", "100% of the users", "AUC warm", "AUC cold"]
    assert section["rows"][0]["cells"] == ["0.7000", "0.8000", "0.8100", "0.7900"]
    assert section["rows"][2]["cells"][:2] == ["0.6000", "stopped"]
    assert section["rows"][3]["cells"] == ["failed", "stopped", "–", "–"]
    assert "taken" in section["sequence"]
    assert section["seconds"] == "123 of 600 s"


def test_it_is_in_the_report_where_there_was_a_race(tmp_path: Path) -> None:
    inputs: dict[str, Any] = {
        "evaluation_path": artifacts.make_evaluation(tmp_path / "evaluation"),
        "dataset_path": artifacts.make_dataset(tmp_path / "dataset"),
        "split_path": artifacts.make_split(tmp_path / "split"),
    }
    (tmp_path / "choice").mkdir()
    build_report(**inputs, config=artifacts.CONFIG, out_path=tmp_path / "without", choice_path=tmp_path / "choice")
    assert "What was chosen" not in (tmp_path / "without" / "report.html").read_text("utf-8")
    write_json(tmp_path / "choice" / "choice.json", race())
    build_report(**inputs, config=artifacts.CONFIG, out_path=tmp_path / "with", choice_path=tmp_path / "choice")
    page = (tmp_path / "with" / "report.html").read_text("utf-8")
    assert "<strong>din</strong>" in page
    assert "&lt;b&gt;the loss" in page
    assert "+0.0100 [+0.0020, +0.0200]" in page
