"""A refresh in MLflow: a run with its numbers as metrics, its verdict as tags, and its page as an artifact."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lorefuse.config import PipelineConfig
from lorefuse.registry.tracking import connect, ensure_experiment, explained, run_url
from lorefuse.training.evaluation import is_number

DIGEST_TAG = "lorefuse.refresh_sha256"


def track_refresh(content: Mapping[str, Any], config: PipelineConfig, out_path: Path, digest: str) -> str:
    """Log a refresh and return the address of its run; one that was logged before is not logged again.

    Args:
        content: `refresh.json`.
        config: Names the experiment.
        out_path: Folder with `refresh.json` and `refresh.html`.
        digest: sha256 of that folder, by which a run that was logged before is found.

    Raises:
        UnreachableError: The tracking server does not answer.
    """
    from mlflow.entities import Metric, Param, RunTag

    client = connect()
    with explained("log the refresh"):
        experiment_id = ensure_experiment(client, config.registry.experiment)
        query = f"tags.`{DIGEST_TAG}` = '{digest}' and attributes.status = 'FINISHED'"
        for known in client.search_runs([experiment_id], query):
            return run_url(client, experiment_id, str(known.info.run_id))
        run = client.create_run(experiment_id, run_name=f"refresh-{content['name']}", tags={"lorefuse.kind": "refresh"})
        run_id, now_ms = str(run.info.run_id), int(time.time() * 1000)
        try:
            tags = {
                DIGEST_TAG: digest,
                "lorefuse.retrain": str(content["retrain"]).lower(),
                "lorefuse.reasons": "; ".join(content["reasons"])[:4000],
            }
            client.log_batch(
                run_id,
                metrics=[Metric(name, value, now_ms, 0) for name, value in refresh_metrics(content)],
                params=[Param("champion", str(content["champion"]))],
                tags=[RunTag(name, text) for name, text in tags.items()],
            )
            client.log_artifacts(run_id, str(out_path), "refresh")
        except BaseException:
            client.set_terminated(run_id, "FAILED")
            raise
        client.set_terminated(run_id, "FINISHED")
    return run_url(client, experiment_id, run_id)


def refresh_metrics(content: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield every finite number of a refresh as a metric: ``fresh/auc``, ``drift/<feature>/psi``, ``new/num_new``."""
    for part, metrics in content["metrics"].items():
        for name, entry in metrics.items():
            if is_number(entry["value"]):
                yield f"{part}/{name}", float(entry["value"])
    for name, value in content["new"].items():
        if is_number(value):
            yield f"new/{name}", float(value)
    drift = content["drift"]
    if not drift:
        return
    yield "drift/drifted", float(drift["drifted"])
    score = {"score": drift["score"]} if drift["score"] else {}
    for group, keys in (
        (score | drift["features"], ("psi", "ks")),
        (drift["vectors"], ("cosine_distance", "shift", "relative")),
    ):
        for name, entry in group.items():
            for key in keys:
                if is_number(entry.get(key)):
                    yield f"drift/{name}/{key}", float(entry[key])
    for name, entry in drift["unseen"].items():
        yield f"drift/unseen_{name}", float(entry["fresh"])
