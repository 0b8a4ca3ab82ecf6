"""The whole path on files and on real PostgreSQL and Redis (and moto's S3): the same vectors, rows, weights, metrics.

The steps are called as functions, one after the other: what `pipelines/training.py` says, without kfp.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lorefuse import steps
from lorefuse.config import load_config
from lorefuse.core.step_cache import StepResult
from lorefuse.registry.lineage import scalar_metrics
from lorefuse.registry.tracking import connect
from lorefuse.training import pool
from lorefuse.training.summary import ARM_RANKERS_FOLDER
from tests.helpers.shop import without_clock, write_preset, write_shop

pytestmark = pytest.mark.slow


def judge(config: steps.Config) -> dict[str, StepResult]:
    """Return the finished steps from the raw files to the judged model."""
    data = steps.ingest(config)
    texts = steps.embed(config, data.path)
    parts = steps.split(config, "per_user_time", data.path)
    vectors = steps.item_vectors(config, data.path, parts.path, texts.path)
    source = steps.features(config, data.path, parts.path, vectors.path)
    store = steps.materialize(config, source.path)
    rows = steps.training_set(config, data.path, parts.path, vectors.path, source.path, store.path)
    study, control = (steps.tune(config, arm, rows.path) for arm in ("real", "none"))
    judged = steps.evaluate(config, rows.path, study.path, control.path)
    stages = steps.lists(config, texts.path, rows.path, judged.path)
    return {step.step: step for step in (data, texts, parts, vectors, source, store, rows, study, judged, stages)}


def register(config: steps.Config, made: dict[str, StepResult]) -> dict[str, float]:
    """Register the judged model and return the metrics of its run, as MLflow gives them back."""
    at = {name: step.path for name, step in made.items()}
    page = steps.report(config, at["ingest"], at["split"], at["item_vectors"], at["evaluate"], at["lists"])
    inputs = ("ingest", "embed", "item_vectors", "features", "training_set", "evaluate", "lists")
    model = steps.bundle(config, *(at[name] for name in inputs))
    folders = (at["ingest"], at["split"], at["training_set"], at["evaluate"], model.path, page.path, at["materialize"])
    version = steps.register(config, *folders)
    return dict(connect().get_run(version["run_id"]).data.metrics)


def test_production_stores_change_no_number(
    tmp_path: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "num_cores", lambda: 1)  # two trainings of a second are not worth two processes
    write_shop(tmp_path / "shop")
    pipeline = load_config(write_preset(tmp_path / "shop"))
    config = steps.dump_config(pipeline)
    made = {}
    for profile in ("local", "production-local"):
        monkeypatch.setenv("LOREFUSE_HOME", str(tmp_path / profile))
        monkeypatch.setenv("LOREFUSE_PROFILE", profile)
        for name, value in environment.items() if profile != "local" else ():
            monkeypatch.setenv(name, value)
        made[profile] = judge(config)
    files, servers = made.values()
    logged = register(config, servers)
    assert [path.name for path in servers["materialize"].path.glob("[!.]*")] == ["store.json"]
    assert not list((tmp_path / "production-local").rglob("*.db"))
    for step in ("item_vectors", "features", "training_set"):
        assert servers[step].digest == files[step].digest, step
    for name in ("model.safetensors", "user_scores.parquet"):
        assert _only(servers["evaluate"], name).read_bytes() == _only(files["evaluate"], name).read_bytes(), name
    metrics = [json.loads(_only(run["evaluate"], "metrics.json").read_text("utf-8")) for run in (files, servers)]
    assert metrics[0]["splits"]["per_user_time"]["arms"]["real"]["test"]
    assert without_clock(metrics[1]) == without_clock(metrics[0])
    headline = without_clock(scalar_metrics(metrics[0], pipeline))
    assert len(headline) > 10
    assert {name: logged[name] for name in headline} == headline


def _only(step: StepResult, name: str) -> Path:
    (path,) = (path for path in step.path.rglob(name) if ARM_RANKERS_FOLDER not in path.parts)
    return path
