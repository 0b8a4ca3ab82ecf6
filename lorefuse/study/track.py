"""A study in MLflow: one parent run, a child run for each variant and arm."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lorefuse.config import PipelineConfig
from lorefuse.registry.tracking import connect, ensure_experiment, explained, run_url


def track_study(content: Mapping[str, Any], config: PipelineConfig, out_path: Path) -> str:
    """Log a finished study and return the address of its parent run.

    The parent has the verdicts as tags and `study.json` and `study.html` as artifacts; each child has a variant's
    model as params, and mean and deviation over seeds of every metric.

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
                tags = [RunTag(f"verdict.{bucket}", text) for bucket, text in entry["verdicts"].items()]
                if entry["name"] == content["best_by_validation"]:
                    client.log_batch(parent_id, tags=tags)
                for arm in content["arms"]:
                    _child(client, experiment_id, parent_id, entry, arm, tags if arm == "real" else [])
            client.log_artifacts(parent_id, str(out_path), "study")
        except BaseException:
            client.set_terminated(parent_id, "FAILED")
            raise
        client.set_terminated(parent_id, "FINISHED")
    return run_url(client, experiment_id, parent_id)


def _child(
    client: Any, experiment_id: str, parent_id: str, entry: Mapping[str, Any], arm: str, tags: list[Any]
) -> None:
    from mlflow.entities import Metric, Param

    run = client.create_run(
        experiment_id, run_name=f"{entry['name']} {arm}", tags={"mlflow.parentRunId": parent_id, "lorefuse.arm": arm}
    )
    run_id, now_ms = str(run.info.run_id), int(time.time() * 1000)
    best = entry["best_params"]["none" if arm == "none" else "real"]
    params = {"variant": entry["name"], "arm": arm, **{f"model.{k}": v for k, v in entry["model"].items()}}
    params |= {f"best.{name}": value for name, value in best.items()}
    points = []
    for name, spread in entry["arms"][arm].items():
        if spread["mean"] is not None:
            points += [Metric(name, spread["mean"], now_ms, 0), Metric(f"{name}_std", spread["std"], now_ms, 0)]
    client.log_batch(run_id, metrics=points, params=[Param(k, str(v)[:500]) for k, v in params.items()], tags=tags)
    client.set_terminated(run_id, "FINISHED")
