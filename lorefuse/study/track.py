"""A study in MLflow: one parent run, a child run for each variant and arm."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lorefuse.config import PipelineConfig
from lorefuse.lists.stage_files import SERVED
from lorefuse.registry.lineage import list_figures, list_metrics
from lorefuse.registry.run import METRICS_PER_BATCH
from lorefuse.registry.tracking import connect, ensure_experiment, explained, run_url
from lorefuse.training.evaluation import is_number


def track_study(content: Mapping[str, Any], config: PipelineConfig, out_path: Path) -> str:
    """Log a finished study and return the address of its parent run.

    The parent has the verdicts as tags, the lists of the best variant by the names that a run's have
    (`lineage.list_metrics`), and `study.json` and `study.html` as artifacts; each child has a variant's model as
    params, mean and deviation over seeds of every metric, and what its list is worth (``list_…``).

    Args:
        content: `study.json`.
        config: The study's first configuration; names the experiment.
        out_path: Folder with the study's files.

    Raises:
        UnreachableError: The tracking server does not answer.
    """
    from mlflow.entities import Param, RunTag

    client = connect()
    with explained("log the study"):
        experiment_id = ensure_experiment(client, config.registry.experiment)
        parent = client.create_run(experiment_id, run_name=f"study-{content['name']}", tags={"lorefuse.kind": "study"})
        parent_id = str(parent.info.run_id)
        try:
            facts = {key: str(content[key]) for key in ("split", "seeds", "arms", "num_trials", "best_by_validation")}
            client.log_batch(parent_id, params=[Param(key, text[:500]) for key, text in facts.items()])
            for entry in content["variants"]:
                judged = content["lists"].get(entry["name"])
                tags = [RunTag(f"verdict.{bucket}", text) for bucket, text in entry["verdicts"].items()]
                if judged is not None:
                    tags += [RunTag(f"verdict.list_{s}", text) for s, text in judged["verdicts"].items()]
                if entry["name"] == content["best_by_validation"]:
                    client.log_batch(parent_id, tags=tags)
                    _log(client, parent_id, {} if judged is None else list_metrics(judged))
                for arm in content["arms"]:
                    _child(client, experiment_id, parent_id, entry, arm, judged, tags if arm == "real" else [])
            client.log_artifacts(parent_id, str(out_path), "study")
        except BaseException:
            client.set_terminated(parent_id, "FAILED")
            raise
        client.set_terminated(parent_id, "FINISHED")
    return run_url(client, experiment_id, parent_id)


def _child(
    client: Any,
    experiment_id: str,
    parent_id: str,
    entry: Mapping[str, Any],
    arm: str,
    judged: Mapping[str, Any] | None,
    tags: list[Any],
) -> None:
    from mlflow.entities import Param

    run = client.create_run(
        experiment_id, run_name=f"{entry['name']} {arm}", tags={"mlflow.parentRunId": parent_id, "lorefuse.arm": arm}
    )
    run_id = str(run.info.run_id)
    best = entry["best_params"]["none" if arm == "none" else "real"]
    params = {"variant": entry["name"], "arm": arm, **{f"model.{k}": v for k, v in entry["model"].items()}}
    params |= {f"best.{name}": value for name, value in best.items()}
    figures: dict[str, Any] = {}
    for name, spread in entry["arms"][arm].items():
        figures |= {name: spread["mean"], f"{name}_std": spread["std"]}
    if judged is not None:
        mine = judged["lists"][SERVED if arm == "real" else arm]
        figures |= {f"list_{name}": value for name, value in list_figures(mine).items()}
    client.log_batch(run_id, params=[Param(k, str(v)[:500]) for k, v in params.items()], tags=tags)
    _log(client, run_id, figures)
    client.set_terminated(run_id, "FINISHED")


def _log(client: Any, run_id: str, figures: Mapping[str, Any]) -> None:
    from mlflow.entities import Metric

    now_ms = int(time.time() * 1000)
    points = [Metric(name, value, now_ms, 0) for name, value in figures.items() if is_number(value)]
    for start in range(0, len(points), METRICS_PER_BATCH):
        client.log_batch(run_id, metrics=points[start : start + METRICS_PER_BATCH])
