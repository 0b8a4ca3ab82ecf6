"""A study as one HTML file, in the same style as a run's report."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from lorefuse.core.atomic import atomic_file
from lorefuse.report.build import render
from lorefuse.report.figures import metric_title
from lorefuse.report.lists import list_figure, list_section
from lorefuse.study.buckets import BUCKETS
from lorefuse.study.figures import study_figures
from lorefuse.study.verdict import bucket_verdict, direction

REPORT_FILE = "study.html"
_CAPTIONS = (
    ("gains", "What real knowledge gained", "Real minus each control by bucket, 95 % paired bootstrap over users."),
    ("tuning", "Tuning", "Dots are trials, lines the best so far; with and without knowledge had the same number."),
    ("learning", "Learning curves", "Of the first seed; the weights of the best validation epoch are kept."),
)


def write_study_report(content: Mapping[str, Any], out_path: Path) -> Path:
    """Write `study.html`, whole in one file, and return its path.

    Args:
        content: `study.json`.
        out_path: Folder to write into.
    """
    figures: dict[str, Any] = {}
    for variant, made in study_figures(content).items():
        for name, figure in made.items():
            figures[f"{variant}/{name}" if variant else name] = json.loads(figure.to_json())
    best = content["best_by_validation"]
    if best in content["lists"]:
        figures["lists"] = json.loads(list_figure(content["lists"][best]).to_json())
    page = render("study.html.j2", _page(content), figures)
    with atomic_file(out_path / REPORT_FILE) as draft_path:
        draft_path.write_text(page, "utf-8")
    return out_path / REPORT_FILE


def list_sentences(judged: Mapping[str, Any]) -> dict[str, str]:
    """Say what knowledge did to the known and to the new items of a served list, against each control.

    Args:
        judged: A variant's entry of ``lists``.
    """
    subsets = {"warm": "known items", "cold": "new items"}
    return {
        title: bucket_verdict(judged["gains"], subset, f"ndcg_at_{judged['k']}") for subset, title in subsets.items()
    }


def headline(content: Mapping[str, Any]) -> list[str]:
    """Return the metrics of the short table: warm and cold, and what a whole catalogue shows."""
    if content["label_kind"] != "binary":
        return ["rmse_warm", "rmse_cold_item", f"novelty_at_{content['k']['ndcg']}"]
    k = content["k"]["ndcg"]
    return ["auc_warm", "gauc_warm", "logloss_warm", "auc_cold_item", f"ndcg_at_{k}_all", f"coverage_at_{k}"]


def _page(content: Mapping[str, Any]) -> dict[str, Any]:
    names = headline(content)
    variants = [
        {
            "name": entry["name"],
            "rows": [
                {"arm": arm, "cells": [_spread(entry["arms"][arm][name]) for name in names]} for arm in content["arms"]
            ],
            "verdicts": entry["verdicts"],
            "lists": _lists(content["lists"].get(entry["name"])),
            "metrics": _metric_rows(entry, content["arms"]),
            "params": yaml.safe_dump({"model": entry["model"], "best": entry["best_params"]}, sort_keys=False),
        }
        for entry in content["variants"]
    ]
    baselines = [
        {"name": f"{entry['name']}, C = {entry['strength']:g}", "arm": entry["arm"], "cells": _cells(entry, names)}
        for entry in content["baselines"]
    ]
    keys = ("name", "split", "seeds", "num_trials", "num_comparisons", "best_by_validation", "counts", "arms")
    return {
        **{key: content[key] for key in keys},
        "lists": _lists(content["lists"].get(content["best_by_validation"])),
        "controls": [arm for arm in content["arms"] if arm != "real"],
        "columns": [_title(name) for name in names],
        "captions": _CAPTIONS,
        "variants": variants,
        "baselines": baselines,
    }


def _lists(judged: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if judged is None else {**list_section(judged), "sentences": list_sentences(judged)}


def _cells(entry: Mapping[str, Any], names: list[str]) -> list[str]:
    """Cells of a baseline: no seed, so no spread; nothing where it ranks no catalogue."""
    found = (entry["metrics"].get(name) for name in names)
    return ["–" if value is None else f"{value:.4f}" for value in found]


def _metric_rows(entry: Mapping[str, Any], arms: list[str]) -> list[dict[str, Any]]:
    rows = []
    bases = list(dict.fromkeys(_base(name)[0] for name in entry["arms"]["real"]))
    for base in bases:
        buckets = [bucket for bucket in BUCKETS if f"{base}_{bucket}" in entry["arms"]["real"]] or [""]
        for bucket in buckets:
            name = f"{base}_{bucket}" if bucket else base
            gaps = [entry["differences"][arm].get(name) for arm in arms if arm != "real"]
            rows.append(
                {
                    "metric": metric_title(base),
                    "bucket": bucket,
                    "first": bucket == buckets[0],
                    "cells": [_spread(entry["arms"][arm][name]) for arm in arms],
                    "gaps": [_gap(gap, base) for gap in gaps],
                }
            )
    return rows


def _base(name: str) -> tuple[str, str]:
    for bucket in BUCKETS:
        if name.endswith(f"_{bucket}"):
            return name.removesuffix(f"_{bucket}"), bucket
    return name, ""


def _title(name: str) -> str:
    base, bucket = _base(name)
    return f"{metric_title(base)} {bucket.replace('_', ' ')}".strip()


def _spread(entry: Mapping[str, Any]) -> str:
    return "–" if entry["mean"] is None else f"{entry['mean']:.4f} ± {entry['std']:.4f}"


def _gap(gap: Mapping[str, Any] | None, metric: str) -> dict[str, str] | None:
    if gap is None or gap["mean"] is None or gap["low"] is None:
        return None
    tone = {1: "good", -1: "bad", 0: "neutral"}[direction(gap, metric)]
    star = " *" if gap.get("holm") else ""
    return {"text": f"{gap['mean']:+.4f} [{gap['low']:+.4f}, {gap['high']:+.4f}]{star}", "tone": tone}
