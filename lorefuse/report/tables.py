"""The report's tables as plain rows of text: metrics, data, versions."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from lorefuse.report.figures import arm_order, lower_is_better, metric_order, metric_title
from lorefuse.training.evaluation import by_arm, is_number

SUBSETS = ("all", "warm", "cold")
_PACKAGES = (
    "lorefuse", "torch", "transformers", "scikit-learn", "numpy", "pandas", "duckdb", "feast", "optuna", "mlflow",
    "onnx", "onnxruntime", "kfp",
)  # fmt: skip


def metric_rows(content: Mapping[str, Any], part: str) -> list[dict[str, Any]]:
    """Return one row per metric and subset: each arm's mean ± std, the best marked, and real minus none.

    Args:
        content: One split of `metrics.json`.
        part: ``test`` or ``validation``.
    """
    arms = arm_order(content["arms"])
    names = list(dict.fromkeys(name for arm in arms for name in content["arms"][arm].get(part, {})))
    metrics = metric_order(name.rpartition("_")[0] for name in names)
    rows = []
    for metric in metrics:
        for subset in SUBSETS:
            entries = [content["arms"][arm].get(part, {}).get(f"{metric}_{subset}", {}) for arm in arms]
            means = [entry.get("mean") for entry in entries]
            known = [mean for mean in means if is_number(mean)]
            if not known:
                continue
            best = min(known) if lower_is_better(metric) else max(known)
            cells = [
                {"text": _spread(entry), "best": is_number(mean) and mean == best and len(known) > 1}
                for entry, mean in zip(entries, means, strict=True)
            ]
            difference = content.get("differences", {}).get("none", {}).get(f"{metric}_{subset}", {})
            rows.append(
                {
                    "metric": metric_title(metric) + (" ↓" if lower_is_better(metric) else ""),
                    "subset": subset,
                    "first": subset == SUBSETS[0],
                    "cells": cells,
                    "difference": interval_chip(difference, lower_is_better(metric)) if part == "test" else None,
                }
            )
    return rows


def budget_text(trials: Mapping[str, Any]) -> str:
    """Return how many trials each arm had, as recorded: a control with a smaller budget is no control."""
    counts = {arm: len(entries) for arm, entries in by_arm(trials, "number").items()}
    if not counts:
        return "not tuned"
    if len(counts) > 1 and len(set(counts.values())) == 1:
        return f"{next(iter(counts.values()))} tuning trials an arm"
    return "tuning trials: " + ", ".join(f"{arm} {count}" for arm, count in counts.items())


def privacy_rows(privacy: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """Return the guarantee that a ranker was trained with; nothing where it was trained without.

    Args:
        privacy: From `training.private.guarantee`; None: without.
    """
    if privacy is None:
        return []
    return [
        ("Guarantee", f"ε {privacy['epsilon']:.3f}, δ {privacy['delta']:.1e}, by {privacy['unit']}"),
        ("Covers", str(privacy["covers"])),
        ("Not covered", "vocabularies, statistics and the prior that it reads, tuning, and the figures of this page"),
        ("Steps", f"{privacy['num_steps']:,}, each of {privacy['sample_rate']:.1%} of {privacy['num_users']:,} users"),
        (
            "Clipping and noise",
            f"norm {privacy['max_grad_norm']:g}, noise {privacy['noise_multiplier']:.3f} times that",
        ),
        ("Accountant", str(privacy["accountant"])),
    ]


def data_rows(manifest: Mapping[str, Any], split: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what the model was made from: counts, label, parts, cutoffs."""
    counts = ", ".join(f"{count:,} {name}" for name, count in manifest.get("counts", {}).items())
    label = manifest.get("label", {})
    meaning = f"value ≥ {label.get('threshold')}" if label.get("kind") == "binary" else "the value itself"
    rows = [
        ("Source", ", ".join(f"{key}: {value}" for key, value in manifest.get("source", {}).items())),
        ("Rows", counts),
        ("Label", f"{label.get('kind', '?')}, {meaning}; mean {manifest.get('label_mean', float('nan')):.4f}"),
        ("First and last event", " to ".join(_moment(manifest.get("cutoffs", {}).get(k)) for k in ("first", "last"))),
        ("Split", f"{split.get('strategy')}, seed {split.get('seed')}"),
    ]
    cold = split.get("cold_counts", {})
    for part, count in split.get("counts", {}).items():
        end = _moment(split.get("cutoffs", {}).get(part))
        rows.append((f"  {part}", f"{count:,} rows, {cold.get(part, 0):,} of cold items; last event {end}"))
    rows.append(("Data cutoff (train)", _moment(split.get("data_cutoff"))))
    rows.append(("Items held out as cold", f"{len(split.get('held_out_items', [])):,}"))
    return rows


def quarantine_rows(manifest: Mapping[str, Any]) -> list[tuple[str, int]]:
    """Return how many raw rows were refused for which reason, most first."""
    counts = manifest.get("quarantined", {})
    return sorted(((str(reason), int(count)) for reason, count in counts.items()), key=lambda row: (-row[1], row[0]))


def fact_rows(content: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return a mapping of facts as rows for people; numbers with separators, nested mappings indented."""
    rows: list[tuple[str, str]] = []
    for name, value in content.items():
        title = name.removeprefix("num_").replace("_", " ")
        if isinstance(value, Mapping):
            rows += [(title, ""), *((f"  {inner}", text) for inner, text in fact_rows(value))]
        else:
            rows.append((title, f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)))
    return rows


def version_rows() -> list[tuple[str, str]]:
    """Return the versions of Python, the system and the packages that decide the numbers."""
    rows = [("python", platform.python_version()), ("system", f"{platform.system()} {platform.machine()}")]
    for name in _PACKAGES:
        try:
            rows.append((name, version(name)))
        except PackageNotFoundError:
            continue
    return rows


def _spread(entry: Mapping[str, Any]) -> str:
    if not is_number(entry.get("mean")):
        return "–"
    several = is_number(entry.get("std")) and len(entry.get("values", ())) > 1
    return f"{entry['mean']:.4f}" + (f" ± {entry['std']:.4f}" if several else "")


def interval_chip(entry: Mapping[str, Any], lower: bool) -> dict[str, str] | None:
    """Return a difference with its interval, and its tone: good, bad, or neutral where zero lies inside.

    Args:
        entry: mean, low, high.
        lower: A smaller value is the better one.
    """
    if not is_number(entry.get("mean")):
        return None
    text, tone = f"{entry['mean']:+.4f}", "neutral"
    if is_number(entry.get("low")) and is_number(entry.get("high")):
        text += f" [{entry['low']:+.4f}, {entry['high']:+.4f}]"
        if entry["low"] > 0 or entry["high"] < 0:
            tone = "good" if (entry["low"] > 0) != lower else "bad"
    return {"text": text, "tone": tone}


def _moment(text: Any) -> str:
    return str(text).replace("T", " ").replace("+00:00", " UTC") if text else "–"
