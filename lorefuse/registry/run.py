"""Register a trained model: one MLflow run, one version, the alias `challenger`; no bundle is taken twice."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from lorefuse.auto.choice_file import read_choice
from lorefuse.config import PipelineConfig
from lorefuse.core.atomic import sha256_file
from lorefuse.core.schema import Alias
from lorefuse.core.step_cache import read_digest
from lorefuse.export.bundle import BUNDLE_FILE, EMBEDDING_FILE, Bundle
from lorefuse.feature_store.online import store_file as find_store_file
from lorefuse.registry import lineage
from lorefuse.registry.tracking import connect, ensure_experiment, explained, run_url
from lorefuse.registry.version import BUNDLE_TAG, STORE_TAG, TAG, create_version, find_version, log_model, promote
from lorefuse.training.evaluation import main_split, read_json, verdict_text
from lorefuse.training.summary import ARM_RANKERS_FOLDER

if TYPE_CHECKING:
    from mlflow import MlflowClient

DATASET_TAG, SPLIT_TAG = f"{TAG}dataset_sha256", f"{TAG}split_sha256"
PARAMS_PER_BATCH, METRICS_PER_BATCH = 100, 500
_log = logging.getLogger(__name__)


class Registration(TypedDict):
    """What `register` did.

    Attributes:
        version: Number of the model version.
        run_id: MLflow run that made it.
        run_url: Address of the run in the MLflow UI.
        reused: True where this very bundle was registered before.
    """

    version: str
    run_id: str
    run_url: str
    reused: bool


def register(
    bundle_path: Path,
    evaluation_path: Path,
    report_path: Path | None,
    config: PipelineConfig,
    *,
    dataset_path: Path,
    split_path: Path,
    store_path: Path | None = None,
    choice_path: Path | None = None,
) -> Registration:
    """Register a model bundle as a new version with the alias `challenger`.

    The run, all artifacts and the logged model are written first, the version with all its tags in one transaction,
    the alias last: a process killed anywhere leaves no alias on a version that is not whole, and the next call
    finishes the work.

    Args:
        bundle_path: Folder of the exported model.
        evaluation_path: Folder with `metrics.json`, `history.json`, `trials.json`, `user_scores.parquet`.
        report_path: HTML file or folder of the report; None where there is none.
        config: The configuration that made the model.
        dataset_path: Dataset folder, for lineage and for the gate's "same test set".
        split_path: Split folder, likewise.
        store_path: Feature store folder; its online features travel with the version where they are one file, so that
            the version can be served on another machine with nothing but what it carries. Of features on servers the
            name of their project travels.
        choice_path: Folder of the race that chose the configuration (`auto.json` of the run); None, or a folder
            without `choice.json`, where there was none.

    Returns:
        Version, run and whether an earlier registration was reused.

    Raises:
        ArtifactError: The bundle or the evaluation is not whole.
        UnreachableError: The tracking server does not answer.
    """
    bundle = Bundle.load(bundle_path)
    metrics = read_json(evaluation_path, "metrics.json")
    store_file = None if store_path is None else find_store_file(store_path)
    client, name = connect(), config.registry.model_name
    with explained("open the experiment"):
        experiment_id = ensure_experiment(client, config.registry.experiment)
    known = find_version(name, bundle.digest, client)
    if known is not None:
        _log.info("Version %s of %s already carries this bundle; reusing it", known.version, name)
        version, run_id = str(known.version), str(known.run_id)
        with explained("close the run"):
            if client.get_run(run_id).info.status == "RUNNING":  # killed right after the version was made
                client.set_terminated(run_id, "FINISHED")
    else:
        _end_abandoned_runs(client, experiment_id, bundle.digest)
        race = read_choice(choice_path)
        tags = _tags(bundle, dataset_path, split_path) | lineage.race_tags(race) | lineage.privacy_tags(metrics)
        if store_file is not None:
            tags[STORE_TAG] = sha256_file(store_file)
        run_id = _start_run(client, experiment_id, bundle, tags, config)
        try:
            model_id = log_model(
                client, run_id, bundle_path=bundle_path, evaluation_path=evaluation_path, store_file=store_file
            )
            _log_numbers(client, run_id, model_id, config, metrics, evaluation_path)
            _log_retrieval(client, run_id, bundle)
            _log_lists(client, run_id, model_id, bundle)
            _log_race(client, run_id, race)
            _log_artifacts(client, run_id, config, evaluation_path, report_path, dataset_path, split_path)
            text = verdict_text(metrics, main_split(metrics, config.split.strategy))
            version = create_version(client, name, run_id, model_id, tags=tags, description=text)
        except BaseException:
            client.set_terminated(run_id, "FAILED")
            raise
        client.set_terminated(run_id, "FINISHED")
    promote(name, version, Alias.CHALLENGER, client)
    url = run_url(client, experiment_id, run_id)
    return Registration(version=version, run_id=run_id, run_url=url, reused=known is not None)


def _tags(bundle: Bundle, dataset_path: Path, split_path: Path) -> dict[str, str]:
    tags = {
        BUNDLE_TAG: bundle.digest,
        f"{TAG}data_cutoff": bundle.data_cutoff,
        f"{TAG}label_kind": bundle.spec().label_kind,
        DATASET_TAG: read_digest(dataset_path),
        SPLIT_TAG: read_digest(split_path),
        **lineage.code_tags(),
    }
    judged = bundle.lists()
    if judged is not None:
        tags |= lineage.list_tags(judged)
    address = bundle.read_json(EMBEDDING_FILE).get("address")
    return tags | ({f"{TAG}embedding_address": str(address)} if address else {})


def _start_run(
    client: MlflowClient, experiment_id: str, bundle: Bundle, tags: dict[str, str], config: PipelineConfig
) -> str:
    run_name = f"{config.model.family}-{bundle.digest[:8]}"
    with explained("start a run"):
        return str(client.create_run(experiment_id, run_name=run_name, tags=tags).info.run_id)


def _log_numbers(
    client: MlflowClient,
    run_id: str,
    model_id: str,
    config: PipelineConfig,
    metrics: dict[str, Any],
    evaluation_path: Path,
) -> None:
    from mlflow.entities import Metric, Param

    now_ms = int(time.time() * 1000)
    params = [Param(name, text) for name, text in lineage.params(config, metrics).items()]
    points = [
        # The headline belongs to the model too, so that the UI can compare models by it.
        Metric(name, value, now_ms, 0, model_id=None if "/" in name else model_id)
        for name, value in lineage.scalar_metrics(metrics, config).items()
    ]
    points += lineage.curve_metrics(read_json(evaluation_path, "history.json"), now_ms)
    with explained("log params and metrics"):
        for batch in _batches(params, PARAMS_PER_BATCH):
            client.log_batch(run_id, params=batch)
        for batch in _batches(points, METRICS_PER_BATCH):
            client.log_batch(run_id, metrics=batch)


def _log_retrieval(client: MlflowClient, run_id: str, bundle: Bundle) -> None:
    """Log how much the index of a catalogue past one graph finds, as ``retrieval/…``."""
    from mlflow.entities import Metric

    if not bundle.retrieves or bundle.blends:
        return
    facts, now_ms = bundle.read_json(BUNDLE_FILE)["parity"], int(time.time() * 1000)
    names = [name for name in facts if name.startswith("recall_at_")]
    names += ["kept_of_top_10", "num_probes", "num_retrieved"]
    points = [Metric(f"retrieval/{name}", float(facts[name]), now_ms, 0) for name in names]
    with explained("log how much retrieval finds"):
        client.log_batch(run_id, metrics=points)


def _log_lists(client: MlflowClient, run_id: str, model_id: str, bundle: Bundle) -> None:
    """Log what the served list is worth, and every list that it is compared with.

    The served list's own are the model's too: ``list_ndcg_at_10_warm``; the rest is ``lists/<list>/<metric>`` and
    ``lists/served_minus_<list>/<metric>``.
    """
    from mlflow.entities import Metric

    content, now_ms = bundle.lists(), int(time.time() * 1000)
    if content is None:
        return
    figures = lineage.list_metrics(content)
    points = [
        Metric(name, value, now_ms, 0, model_id=None if "/" in name else model_id) for name, value in figures.items()
    ]
    with explained("log what the list is worth"):
        for batch in _batches(points, METRICS_PER_BATCH):
            client.log_batch(run_id, metrics=batch)
        client.log_dict(run_id, content, "lists.json")


def _log_race(client: MlflowClient, run_id: str, race: dict[str, Any] | None) -> None:
    """Log the race that chose the configuration as `auto.json`, and each configuration's last score."""
    from mlflow.entities import Metric, Param

    if race is None:
        return
    now_ms = int(time.time() * 1000)
    points = [Metric(name, value, now_ms, 0) for name, value in lineage.race_metrics(race).items()]
    params = [Param(name, text) for name, text in lineage.flatten(race["auto"], "race.").items()]
    with explained("log the race"):
        client.log_batch(run_id, metrics=points, params=[*params, Param("race.chosen", str(race["chosen"]))])
        client.log_dict(run_id, race, "auto.json")


def _log_artifacts(
    client: MlflowClient,
    run_id: str,
    config: PipelineConfig,
    evaluation_path: Path,
    report_path: Path | None,
    dataset_path: Path,
    split_path: Path,
) -> None:
    with explained("log artifacts"):
        client.log_inputs(run_id, lineage.dataset_inputs(dataset_path, split_path))
        for path in sorted(evaluation_path.iterdir()):
            if path.name != ARM_RANKERS_FOLDER and not path.name.startswith("."):
                (client.log_artifacts if path.is_dir() else client.log_artifact)(
                    run_id, str(path), f"evaluation/{path.name}" if path.is_dir() else "evaluation"
                )
        # Counts and reasons of what was set aside; the rows themselves, which may hold anything, stay where they are.
        client.log_artifact(run_id, str(dataset_path / "manifest.json"), "dataset")
        client.log_dict(run_id, config.model_dump(mode="json"), "config.json")
        if report_path is not None:
            log = client.log_artifacts if report_path.is_dir() else client.log_artifact
            log(run_id, str(report_path), "report")


def _batches(entries: Sequence[Any], size: int) -> list[list[Any]]:
    return [list(entries[start : start + size]) for start in range(0, len(entries), size)]


def _end_abandoned_runs(client: MlflowClient, experiment_id: str, bundle_digest: str) -> None:
    """Mark runs of this bundle that a killed process left open, so that the UI does not show them as running."""
    query = f"tags.`{BUNDLE_TAG}` = '{bundle_digest}' and attributes.status = 'RUNNING'"
    with explained("look for abandoned runs"):
        for run in client.search_runs([experiment_id], query):
            client.set_terminated(run.info.run_id, "KILLED")
