"""Baselines beside a study: scikit-learn's linear models with knowledge and without, judged on the same buckets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from lorefuse.config import Arm, BaselineName, PipelineConfig
from lorefuse.core.atomic import write_json
from lorefuse.core.progress import track
from lorefuse.core.schema import Split
from lorefuse.core.step_cache import reuse_or_build
from lorefuse.study.cell import RESULT_FILE, judge_buckets
from lorefuse.training.linear_baselines import fit_baseline
from lorefuse.training.pool import load_training_set
from lorefuse.training.train import arm_set

ARMS: tuple[Arm, ...] = ("real", "none")


def run_baselines(config: PipelineConfig, rows_path: Path) -> list[dict[str, Any]]:
    """Fit each of `study.baselines` on each arm, or find it finished.

    They have no seed: knowledge and rows decide them, and validation rows choose their one setting.

    Args:
        config: Which baselines, which buckets.
        rows_path: Training set folder, with the real knowledge.

    Returns:
        For each: name, arm, strength, validation_score, and metrics as ``<metric>_<bucket>``, null where undefined.
    """
    cells = [(name, arm) for name in config.study.baselines for arm in ARMS]
    return [_run(config, rows_path, name, arm) for name, arm in track(cells, "Baselines", total=len(cells))]


def _run(config: PipelineConfig, rows_path: Path, name: BaselineName, arm: Arm) -> dict[str, Any]:
    def build(out_path: Path) -> dict[str, Any]:
        training_set = arm_set(load_training_set(str(rows_path)), arm, config, config.training.seed)
        fitted = fit_baseline(name, training_set, training_set.rows_of(Split.TEST))
        metrics = judge_buckets(training_set, fitted.scores, config.study)
        result = {
            "name": name,
            "arm": arm,
            "strength": fitted.strength,
            "validation_score": fitted.validation_score,
            "metrics": {key: value if np.isfinite(value) else None for key, value in metrics.items()},
        }
        write_json(out_path / RESULT_FILE, result)
        return {key: result[key] for key in ("name", "arm", "strength")}

    buckets = config.study.model_dump(include={"ndcg_k", "recall_k", "head_share", "tail_share"})
    key = {"name": name, "arm": arm, "study": buckets, "features": config.features.model_dump(mode="json")}
    step = reuse_or_build("baseline", config=key, inputs={"rows": rows_path}, build=build)
    content: dict[str, Any] = json.loads((step.path / RESULT_FILE).read_text("utf-8"))
    return content
