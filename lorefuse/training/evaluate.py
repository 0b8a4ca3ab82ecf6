"""Arms × seeds on each split, judged on the same test rows: did knowledge help, and is it the knowledge that did?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lorefuse.atomic import write_json
from lorefuse.config import Arm, PipelineConfig
from lorefuse.contract import Split
from lorefuse.errors import ConfigError, DataError
from lorefuse.features.training_set import TrainingSet
from lorefuse.progress import track
from lorefuse.training.compare import METRICS, compare, parse_metric
from lorefuse.training.pool import load_training_set, run_parallel

RANKER_FOLDER = "ranker"
GLOBAL_ARMS: tuple[Arm, ...] = ("real", "none")
"""On the second split the question is only whether knowledge hurts."""


@dataclass(frozen=True)
class _Task:
    training_set_path: str
    config: PipelineConfig
    split: str
    arm: Arm
    seed: int
    params: dict[str, Any]
    save_path: str | None


def run_arms(
    training_set_paths: Mapping[str, Path],
    best_params: Mapping[str, dict[str, Any]],
    trials: Mapping[str, list[dict[str, Any]]],
    config: PipelineConfig,
    out_path: Path,
) -> dict[str, Any]:
    """Train every arm with every seed, read the test rows once, and write the evaluation folder.

    Arms with knowledge use the parameters tuned for `real`, arms without it those tuned for `none`.

    Args:
        training_set_paths: By split strategy; the first is the one whose ranker is kept.
        best_params: By tuned arm, ``real`` and ``none``.
        trials: The studies' trials by arm, for the report.
        config: Seeds, arms, k, bootstraps.
        out_path: Empty folder to fill: `metrics.json`, `history.json`, `trials.json`, `user_scores.parquet`, `ranker/`.

    Returns:
        The headline numbers.

    Raises:
        ConfigError: The arms lack ``real``.
        DataError: A split has no test rows, or nothing to train on.

    Numbers that are undefined (the AUC of cold rows where there are none) are null in `metrics.json`.
    """
    if "real" not in config.evaluation.arms:
        raise ConfigError(
            "evaluation.arms lacks the model itself.", expected="real among them", got=str(config.evaluation.arms)
        )
    for split, path in training_set_paths.items():
        _check_test_rows(load_training_set(str(path)), split)
    (out_path / RANKER_FOLDER).mkdir()
    tasks = _tasks(training_set_paths, best_params, config, out_path)
    results = list(track(run_parallel(_run, tasks), "Training arms and seeds", total=len(tasks)))
    splits: dict[str, Any] = {}
    history: dict[str, Any] = {}
    for split, path in training_set_paths.items():
        mine = {(t.arm, t.seed): r for t, r in zip(tasks, results, strict=True) if t.split == split}
        training_set = load_training_set(str(path))
        splits[split] = _summarise(mine, training_set, config)
        history |= {f"{split}/{arm}": r["history"] for (arm, seed), r in mine.items() if seed == _first_seed(config)}
        if split == next(iter(training_set_paths)):
            _write_scores(training_set, mine[("real", _first_seed(config))]["test_scores"], out_path)
            counts = _counts(training_set)
    metrics = {
        "k": config.evaluation.k,
        "label_kind": config.data.label.kind,
        "seeds": _seeds(config),
        "splits": splits,
        "best_params": dict(best_params),
        "counts": counts,
    }
    write_json(out_path / "metrics.json", _without_nan(metrics))
    write_json(out_path / "history.json", history)
    write_json(out_path / "trials.json", dict(trials))
    return _headline(splits)


def _check_test_rows(training_set: TrainingSet, split: str) -> None:
    if not len(training_set.rows_of(Split.TEST)):
        raise DataError(
            f"The split {split} has no test rows.",
            expected="at least one",
            got="none",
            fix="bring more data, or lower split.train_share",
        )


def _tasks(
    paths: Mapping[str, Path], best_params: Mapping[str, dict[str, Any]], config: PipelineConfig, out_path: Path
) -> list[_Task]:
    tasks = []
    for number, (split, path) in enumerate(paths.items()):
        arms = [arm for arm in config.evaluation.arms if number == 0 or arm in GLOBAL_ARMS]
        for arm in arms:
            params = best_params["none" if arm == "none" else "real"]
            for seed in _seeds(config):
                keep = number == 0 and arm == "real" and seed == _first_seed(config)
                save_path = str(out_path / RANKER_FOLDER) if keep else None
                tasks.append(_Task(str(path), config, split, arm, seed, params, save_path))
    return tasks


def _run(task: _Task) -> dict[str, Any]:
    from lorefuse.models.build import save_ranker
    from lorefuse.training.params import apply
    from lorefuse.training.train import arm_set, judge_split, score_rows, train

    training_set = arm_set(load_training_set(task.training_set_path), task.arm, task.config, task.seed)
    model, training = apply(task.config, task.params)
    trained = train(training_set, model, training.model_copy(update={"num_threads": 1, "seed": task.seed}))
    result: dict[str, Any] = {"history": trained.history.epochs, "best_epoch": trained.history.best_epoch}
    for part in (Split.VALIDATION, Split.TEST):
        rows = training_set.rows_of(part)
        scores = score_rows(trained.ranker, training_set, rows)
        result[f"{part}_scores"] = scores
        result[str(part)] = judge_split(training_set, scores, rows, task.config)
    if task.save_path is not None:
        save_ranker(trained.ranker, model, Path(task.save_path))
    return result


def _summarise(
    results: Mapping[tuple[Arm, int], dict[str, Any]], training_set: TrainingSet, config: PipelineConfig
) -> dict[str, Any]:
    arms = list(dict.fromkeys(arm for arm, _ in results))
    summary: dict[str, Any] = {"arms": {}, "differences": {}, "verdicts": {}}
    for arm in arms:
        runs = [results[(arm, seed)] for seed in _seeds(config)]
        summary["arms"][arm] = {
            str(part): _spread([run[str(part)] for run in runs]) for part in (Split.VALIDATION, Split.TEST)
        }
        summary["arms"][arm]["num_epochs"] = [run["best_epoch"] for run in runs]
        summary["arms"][arm]["train_s"] = [round(sum(e["elapsed_s"] for e in run["history"]), 2) for run in runs]
    mean_scores = {
        arm: np.mean([results[(arm, seed)][f"{Split.TEST}_scores"] for seed in _seeds(config)], axis=0) for arm in arms
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
        ends = sorted([sign * outcome.low, sign * outcome.high])
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


def _write_scores(training_set: TrainingSet, scores: NDArray[np.float32], out_path: Path) -> None:
    rows = training_set.rows_of(Split.TEST)
    frame = pd.DataFrame(
        {
            "row_id": rows,
            "user_row": training_set.user_row[rows],
            "label": training_set.label[rows],
            "score": scores,
            "cold": training_set.cold[rows],
        }
    )
    frame.to_parquet(out_path / "user_scores.parquet", index=False)


def _counts(training_set: TrainingSet) -> dict[str, int]:
    counts = {str(part): len(training_set.rows_of(part)) for part in (Split.TRAIN, Split.VALIDATION, Split.TEST)}
    cold = training_set.cold[training_set.rows_of(Split.TEST)]
    return {**counts, "test_warm": int((~cold).sum()), "test_cold": int(cold.sum())}


def _headline(splits: Mapping[str, Any]) -> dict[str, Any]:
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


def _without_nan(content: Any) -> Any:
    """Return JSON-able content with null in place of NaN, which JSON does not know and strict readers refuse."""
    if isinstance(content, Mapping):
        return {name: _without_nan(value) for name, value in content.items()}
    if isinstance(content, list):
        return [_without_nan(value) for value in content]
    return None if isinstance(content, float) and not np.isfinite(content) else content


def _seeds(config: PipelineConfig) -> list[int]:
    return [config.training.seed + number for number in range(config.evaluation.num_seeds)]


def _first_seed(config: PipelineConfig) -> int:
    return config.training.seed
