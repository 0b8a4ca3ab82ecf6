"""A refresh as one HTML file, in the same style as a run's report."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lorefuse.core.atomic import atomic_file
from lorefuse.drift.figures import drift_figures
from lorefuse.report.build import render

REPORT_FILE = "refresh.html"


def write_drift_report(content: Mapping[str, Any], out_path: Path) -> Path:
    """Write `refresh.html`, whole in one file, and return its path.

    Args:
        content: `refresh.json`: name, champion, retrain, reasons, notes, new, metrics (of test and fresh rows), and
            drift (what `compare` returns, or null where there are no new rows).
        out_path: Folder to write into.
    """
    drift = content["drift"]
    made = drift_figures(drift, content["metrics"]) if drift else {}
    figures = {name: json.loads(figure.to_json()) for name, figure in made.items()}
    page = render("drift.html.j2", _page(content), figures)
    with atomic_file(out_path / REPORT_FILE) as draft_path:
        draft_path.write_text(page, "utf-8")
    return out_path / REPORT_FILE


def _page(content: Mapping[str, Any]) -> dict[str, Any]:
    drift = content["drift"] or {"features": {}, "vectors": {}, "unseen": {}, "score": None}
    bins = sorted(drift["features"], key=lambda name: -drift["features"][name]["psi"])
    return {
        **{key: content[key] for key in ("name", "champion", "retrain", "reasons", "notes")},
        "new": {name.replace("_", " "): _number(value) for name, value in content["new"].items()},
        "metrics": [
            [name.upper(), *(_interval(content["metrics"].get(part, {}).get(name)) for part in ("test", "fresh"))]
            for name in content["metrics"].get("test", {})
        ],
        "features": [_feature_row(name, entry) for name, entry in _with_score(drift).items()],
        "vectors": [
            [
                name, f"{entry['cosine_distance']:.4f}", f"{entry['shift']:.4f}", f"{entry['shift_by_chance']:.4f}",
                _times(entry["relative"]), entry["drifted"],
            ]
            for name, entry in drift["vectors"].items()
        ],
        "unseen": [
            [name, f"{entry['reference']:.1%}", f"{entry['fresh']:.1%}", f"{entry['limit']:.0%}", entry["drifted"]]
            for name, entry in drift["unseen"].items()
        ],
        "bins": [f"bins/{name}" for name in bins],
    }  # fmt: skip


def _with_score(drift: Mapping[str, Any]) -> dict[str, Any]:
    score = {"score": drift["score"]} if drift["score"] else {}
    return {**score, **dict(sorted(drift["features"].items(), key=lambda pair: -pair[1]["psi"]))}


def _feature_row(name: str, entry: Mapping[str, Any]) -> list[Any]:
    return [
        name.replace("_", " "),
        f"{entry['psi']:.3f}",
        f"{entry['psi_by_chance']:.3f}",
        f"{entry['ks']:.3f}" if "ks" in entry else "–",
        f"{entry['ks_p']:.2g}" if "ks_p" in entry else "–",
        f"{entry['reference_mean']:.4g}" if "reference_mean" in entry else "–",
        f"{entry['fresh_mean']:.4g}" if "fresh_mean" in entry else "–",
        entry["drifted"],
    ]


def _interval(entry: Mapping[str, Any] | None) -> str:
    if not entry or entry["value"] is None:
        return "–"
    if entry["low"] is None:
        return f"{entry['value']:.4f}"
    return f"{entry['value']:.4f} [{entry['low']:.4f}, {entry['high']:.4f}]"


def _times(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f} ×"


def _number(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
