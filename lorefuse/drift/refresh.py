"""New rows → is the champion still right, in numbers and words; and what to train on where it is not."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import yaml

from lorefuse.config import PipelineConfig
from lorefuse.core.atomic import atomic_folder, write_json
from lorefuse.core.step_cache import read_digest
from lorefuse.data.append import fresh_rows, source_of
from lorefuse.data.dataset import Dataset
from lorefuse.data.files import paths_of
from lorefuse.drift.champion import check_meaning, score
from lorefuse.drift.compare import compare
from lorefuse.drift.decay import decay, judge_rows
from lorefuse.drift.report import write_drift_report
from lorefuse.drift.sample import sample_of
from lorefuse.export.bundle import Bundle
from lorefuse.feature_store.new_entities import extend, extended_set

REFRESH_FILE, PRESET_FILE, DATASET_FOLDER = "refresh.json", "preset.yaml", "dataset"


def judge_refresh(
    merged: Dataset,
    base: Dataset,
    split_path: Path,
    embeddings_path: Path,
    vectors_path: Path,
    feature_data_path: Path,
    bundle: Bundle,
    version: str,
    appended: dict[str, Any],
    config: PipelineConfig,
    out_path: Path,
) -> dict[str, Any]:
    """Score test rows and new rows with the champion, compare them, decide, and write `refresh.json` and the page.

    Args:
        merged: The grown dataset.
        base: The champion's dataset.
        split_path: Its parts.
        embeddings_path: Full text vectors of the grown dataset.
        vectors_path: The champion's item vectors.
        feature_data_path: The champion's vocabularies, prior and spec.
        bundle: The champion.
        version: Its number.
        appended: Counts of `data.append`.
        config: Section `drift` decides.
        out_path: Empty folder to fill.

    Returns:
        retrain, reasons, num_new, and AUC (or RMSE) of both.

    Raises:
        UsageError: The champion was trained with other features.
    """
    check_meaning(bundle, feature_data_path, vectors_path)
    extended = extend(merged, embeddings_path, vectors_path, feature_data_path, config.knowledge)
    rows, test, new = extended_set(merged, fresh_rows(merged, base), split_path, extended, config)
    content: dict[str, Any] = {
        "name": config.name, "champion": version, "new": appended, "metrics": {}, "drift": None, "decay": []
    }  # fmt: skip
    if len(new):
        scores = {"test": score(bundle, rows, test), "fresh": score(bundle, rows, new)}
        samples = {"test": test, "fresh": new}
        content["metrics"] = {
            part: judge_rows(rows.label[at], scores[part], rows.user_row[at], rows.spec.label_kind, config.drift)
            for part, at in samples.items()
        }
        content["decay"] = decay(content["metrics"]["test"], content["metrics"]["fresh"], config.drift)
        known = sample_of(rows, test, scores["test"])
        content["drift"] = compare(known, sample_of(rows, new, scores["fresh"]), config.drift)
    content |= decide(content, len(new), config)
    write_json(out_path / REFRESH_FILE, content)
    write_drift_report(content, out_path)
    metric = "auc" if rows.spec.label_kind == "binary" else "rmse"
    values = {f"{metric}_{part}": entry[metric]["value"] for part, entry in content["metrics"].items()}
    return {"retrain": content["retrain"], "num_new": len(new), **values, "reasons": content["reasons"]}


def decide(content: dict[str, Any], num_new: int, config: PipelineConfig) -> dict[str, Any]:
    """Return retrain, reasons (for what is decided) and notes (what was seen beside).

    Args:
        content: `drift` (of `compare`, or None), `decay` (of `decay`) and `new` (counts).
        num_new: New rows.
        config: `drift.retrain_on`, `drift.min_rows`.
    """
    found = {"drift": content["drift"]["reasons"] if content["drift"] else [], "decay": content["decay"]}
    heeded = [reason for kind in config.drift.retrain_on for reason in found[kind]]
    notes = [reason for kind, reasons in found.items() if kind not in config.drift.retrain_on for reason in reasons]
    if content["new"].get("num_late"):
        notes.append(f"{content['new']['num_late']:,} rows are older than what the model was trained on.")
    if not num_new:
        duplicates = content["new"].get("num_duplicates", 0)
        return {
            "retrain": False,
            "reasons": [f"There are no new rows; {duplicates:,} are known already."],
            "notes": notes,
        }
    if num_new < config.drift.min_rows:
        too_few = f"{num_new:,} new rows decide nothing; drift.min_rows is {config.drift.min_rows:,}."
        return {"retrain": False, "reasons": [too_few], "notes": [*heeded, *notes]}
    if heeded:
        return {"retrain": True, "reasons": heeded, "notes": notes}
    holds = "Neither drift nor decay passes its threshold." if not notes else "What passes a threshold is not heeded."
    return {"retrain": False, "reasons": [holds], "notes": notes}


def keep_preset(merged: Dataset, config: PipelineConfig, refresh_path: Path) -> tuple[PipelineConfig, Path]:
    """Keep a grown dataset and the preset that trains on it; return the preset's configuration and path.

    Both stand in a folder named by content, so a later refresh never changes what an earlier one trained on.

    Args:
        merged: The grown dataset.
        config: The configuration so far.
        refresh_path: Folder of all refreshes.
    """
    folder_path = refresh_path / config.name / read_digest(merged.path)[:12]
    with atomic_folder(folder_path) as draft_path:
        shutil.copytree(merged.path, draft_path / DATASET_FOLDER, ignore=shutil.ignore_patterns(".*", "appended.json"))
        source = source_of(merged)
        # The folder gets its name only when it is whole; the preset must speak of where the files will be.
        moved = {name: folder_path / DATASET_FOLDER / path.name for name, path in paths_of(source).items()}
        source = source.model_copy(update=moved)
        grown = config.model_copy(update={"data": config.data.model_copy(update={"source": source})})
        content = grown.model_dump(mode="json", exclude_none=True)
        (draft_path / PRESET_FILE).write_text(yaml.safe_dump(content, sort_keys=False), "utf-8")
    return grown, folder_path / PRESET_FILE
