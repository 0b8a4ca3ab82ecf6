"""From trained arms and seeds to the numbers and words of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lorefuse.config import Arm, PipelineConfig
from lorefuse.core.schema import Split
from lorefuse.training.compare import compare
from lorefuse.training.row_metrics import METRICS, parse_metric
from lorefuse.training_set.arrays import TrainingSet

ARM_RANKERS_FOLDER = "rankers"
"""Folder of an evaluation with the rankers of the control arms: lists are judged with them, no version carries them."""


def seeds_of(config: PipelineConfig) -> list[int]:
    """Return the seeds of an evaluation: the configured one and those after it."""
    return [config.training.seed + number for number in range(config.evaluation.num_seeds)]


def first_seed(config: PipelineConfig) -> int:
    """Return the seed whose ranker is kept."""
    return config.training.seed


def summarise(
    results: Mapping[tuple[Arm, int], dict[str, Any]], training_set: TrainingSet, config: PipelineConfig
) -> dict[str, Any]:
    """Return a split's part of `metrics.json`: spread by arm, real minus each control, and verdicts in words.

    Args:
        results: By arm and seed: metrics and scores of validation and test rows, history and best epoch.
        training_set: The split's rows.
        config: Seeds and bootstraps.
    """
    arms = list(dict.fromkeys(arm for arm, _ in results))
    summary: dict[str, Any] = {"arms": {}, "differences": {}, "verdicts": {}}
    for arm in arms:
        runs = [results[(arm, seed)] for seed in seeds_of(config)]
        summary["arms"][arm] = {
            str(part): _spread([run[str(part)] for run in runs]) for part in (Split.VALIDATION, Split.TEST)
        }
        summary["arms"][arm]["num_epochs"] = [run["best_epoch"] for run in runs]
        summary["arms"][arm]["train_s"] = [round(sum(e["elapsed_s"] for e in run["history"]), 2) for run in runs]
    mean_scores = {
        arm: np.mean([results[(arm, seed)][f"{Split.TEST}_scores"] for seed in seeds_of(config)], axis=0)
        for arm in arms
    }
    for arm in arms:
        if arm != "real":
            summary["differences"][arm] = _differences(mean_scores["real"], mean_scores[arm], training_set, config)
    for subset in ("warm", "cold"):
        name = f"{'auc' if training_set.spec.label_kind == 'binary' else 'rmse'}_{subset}"
        if "none" in summary["differences"]:
            lower_is_better = METRICS[parse_metric(name)[0]][1] < 0
            summary["verdicts"][subset] = verdict(summary["differences"]["none"][name], lower_is_better)
    return summary


def _differences(
    real: NDArray[Any], other: NDArray[Any], training_set: TrainingSet, config: PipelineConfig
) -> dict[str, dict[str, float]]:
    """Real minus the other arm with its 95 % interval, on scores averaged over seeds, users resampled."""
    rows = training_set.rows_of(Split.TEST)
    names = ["auc", "gauc", "logloss"] if training_set.spec.label_kind == "binary" else ["rmse"]
    result = {}
    for name in (f"{name}_{subset}" for name in names for subset in ("warm", "cold")):
        outcome = compare(
            name,
            training_set.label[rows].astype(np.float64),
            real.astype(np.float64),
            other.astype(np.float64),
            training_set.user_row[rows].astype(np.int64),
            training_set.cold[rows],
            num_bootstraps=config.evaluation.num_bootstraps,
        )
        sign = METRICS[parse_metric(name)[0]][1]
        ends = sorted(sign * end for end in outcome.interval)
        result[name] = {"mean": sign * outcome.gain, "low": ends[0], "high": ends[1]}
    return result


def verdict(difference: Mapping[str, float], lower_is_better: bool = False) -> str:
    """Say in words what an interval says: ``helped``, ``hurt``, or ``no evidence`` where it holds 0 (or is empty).

    Args:
        difference: low and high of real minus control.
        lower_is_better: True for a loss.
    """
    above, below = difference["low"] > 0, difference["high"] < 0
    if not above and not below:
        return "no evidence"
    return "helped" if above != lower_is_better else "hurt"


def _spread(runs: list[dict[str, float]]) -> dict[str, dict[str, Any]]:
    """Mean and sample deviation over seeds; one seed has no spread to speak of, so 0."""
    spread = {}
    for name in runs[0]:
        values = [run[name] for run in runs]
        std = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
        spread[name] = {"mean": float(np.mean(values)), "std": std, "values": values}
    return spread


def headline(splits: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures that a step prints, by split and arm."""
    lines: dict[str, Any] = {}
    for split, content in splits.items():
        for arm, parts in content["arms"].items():
            test = parts["test"]
            names = [n for n in ("auc_warm", "gauc_warm", "auc_cold", "rmse_warm") if np.isfinite(_mean_of(test, n))]
            lines[f"{split}/{arm}"] = {n: f"{test[n]['mean']:.4f} ± {test[n]['std']:.4f}" for n in names}
        lines[f"{split}/verdict"] = content["verdicts"]
    return lines


def _mean_of(metrics: Mapping[str, Any], name: str) -> float:
    return float(metrics[name]["mean"]) if name in metrics else float("nan")


def without_nan(content: Any) -> Any:
    """Return JSON-able content with null in place of NaN, which JSON does not know and strict readers refuse."""
    if isinstance(content, Mapping):
        return {name: without_nan(value) for name, value in content.items()}
    if isinstance(content, list):
        return [without_nan(value) for value in content]
    return None if isinstance(content, float) and not np.isfinite(content) else content
