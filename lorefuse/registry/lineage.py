"""What a run writes down about where it came from: flat params, metrics, curves, data and code."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorefuse.config import PipelineConfig
from lorefuse.core.atomic import sha256_json
from lorefuse.core.schema import DatasetFile, Split
from lorefuse.core.settings import settings
from lorefuse.core.step_cache import code_digest, read_digest
from lorefuse.lists.stage_files import SERVED, SIMPLE
from lorefuse.training.evaluation import by_arm, is_number, read_json

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput, Metric

MAX_PARAM_CHARS = 6000
MAX_DIGEST_CHARS = 36
_ROOMS = ("data", "embedding", "knowledge", "features", "models", "training", "tuning", "lists", "registry", "export")


LIST_TAG = "lorefuse.list_ndcg"
"""Versions that show a judged list have it."""
PRIVACY_TAG = "lorefuse.privacy_"
"""Versions whose ranker was trained with differential privacy have such: epsilon, delta, unit and what they cover."""
RACE_TAG = "lorefuse.auto"
"""Versions whose configuration a race has chosen have it."""


def flatten(content: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return a nested mapping as dotted names → text; lists become JSON, None becomes ``null``."""
    flat: dict[str, str] = {}
    for key, value in content.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            text = value if isinstance(value, str) else json.dumps(value, default=str)
            flat[f"{prefix}{key}"] = text[:MAX_PARAM_CHARS]
    return flat


def params(config: PipelineConfig, metrics: Mapping[str, Any]) -> dict[str, str]:
    """Return the whole config and the best hyperparameters of each arm, flat."""
    best = flatten(metrics.get("best_params", {}), "best.")
    counts = flatten(metrics.get("counts", {}), "rows.")
    return flatten(config.model_dump(mode="json")) | best | counts


def scalar_metrics(metrics: Mapping[str, Any], config: PipelineConfig) -> dict[str, float]:
    """Return every finite number of `metrics.json`, flat.

    The first are the headline (``auc_warm`` and ``auc_warm_vs_none`` of the configured split's test part); the rest
    is ``<split>/<arm>/<part>/<metric>`` with ``_std``, and ``<split>/real_minus_<arm>/<metric>`` with ``_low`` and
    ``_high``.
    """
    flat: dict[str, float] = {}
    for split, content in metrics["splits"].items():
        for arm, parts in content["arms"].items():
            for part in (Split.TEST, Split.VALIDATION):
                for name, entry in parts.get(str(part), {}).items():
                    flat[f"{split}/{arm}/{part}/{name}"] = entry["mean"]
                    flat[f"{split}/{arm}/{part}/{name}_std"] = entry["std"]
        for arm, differences in content.get("differences", {}).items():
            for name, entry in differences.items():
                base = f"{split}/real_minus_{arm}/{name}"
                flat |= {base: entry["mean"], f"{base}_low": entry["low"], f"{base}_high": entry["high"]}
    main = config.split.strategy
    headline = {key.rsplit("/", 1)[1]: value for key, value in flat.items() if key.startswith(f"{main}/real/test/")} | {
        f"{key.rsplit('/', 1)[1]}_vs_none": value
        for key, value in flat.items()
        if key.startswith(f"{main}/real_minus_none/")
    }
    finite = {name: value for name, value in (headline | flat).items() if is_number(value)}
    return {name.replace("@", "_at_"): float(value) for name, value in finite.items()}  # MLflow refuses "@"


def list_metrics(content: Mapping[str, Any]) -> dict[str, float]:
    """Return every finite number of `lists.json`, flat: ``list_…`` of the served list, then ``lists/…`` of all.

    Of several trainings each mean has its deviation over them beside it, ``…_std``.
    """
    flat: dict[str, Any] = {}
    for name, entry in content["lists"].items():
        own = "lists/" + name.replace(" ", "_")
        figures = list_figures(entry)
        flat |= {f"{own}/{metric}": value for metric, value in figures.items()}
        if name == SERVED:
            flat |= {f"list_{metric}": value for metric, value in figures.items()}
    for name, gains in content["gains"].items():
        base = "lists/served_minus_" + name.replace(" ", "_")
        for metric, entry in gains.items():
            flat |= {
                f"{base}/{metric}{end}": entry[key] for key, end in (("mean", ""), ("low", "_low"), ("high", "_high"))
            }
    return {name: float(value) for name, value in flat.items() if is_number(value)}


def list_figures(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures of one list of `lists.json`, flat."""
    figures = {metric: values["mean"] for metric, values in entry["metrics"].items()}
    figures |= {f"{metric}_std": values["std"] for metric, values in entry["metrics"].items() if "std" in values}
    return figures | {"coverage": entry["coverage"], "novelty": entry["novelty"]}


def list_tags(content: Mapping[str, Any]) -> dict[str, str]:
    """Return what a version says about its list: the figure, and how it stands beside popularity."""
    name = f"ndcg_at_{content['k']}_warm"
    served = content["lists"][SERVED]["metrics"][name]["mean"]
    tags = {LIST_TAG: f"{served:.4f}" if is_number(served) else "none"}
    for other, gains in content["gains"].items():
        if other in SIMPLE and is_number(gains[name]["mean"]):
            gain = gains[name]
            ends = f" [{gain['low']:+.4f}, {gain['high']:+.4f}]" if is_number(gain["low"]) else ""
            tags["lorefuse.list_minus_" + other] = f"{gain['mean']:+.4f}{ends}"
    return tags


def privacy_tags(metrics: Mapping[str, Any]) -> dict[str, str]:
    """Return what a version says about differential privacy; nothing where it was trained without.

    Args:
        metrics: `metrics.json`.
    """
    facts = metrics.get("privacy")
    if facts is None:
        return {}
    names = ("epsilon", "delta", "unit", "covers", "accountant", "noise_multiplier", "max_grad_norm")
    texts = {name: f"{facts[name]:.6g}" if is_number(facts[name]) else str(facts[name]) for name in names}
    return {f"{PRIVACY_TAG}{name}": text for name, text in texts.items()}


def race_tags(race: Mapping[str, Any] | None) -> dict[str, str]:
    """Return what a version says about the race that chose its configuration; nothing where there was none."""
    return {} if race is None else {RACE_TAG: f"{race['chosen']}: {race['why']}"}


def race_metrics(race: Mapping[str, Any]) -> dict[str, float]:
    """Return the last score of each configuration of a race, ``race/<configuration>``."""
    scores = {
        one["name"]: [entry["score"] for entry in one["rungs"] if is_number(entry["score"])]
        for one in race["configurations"]
    }
    return {f"race/{name}": float(values[-1]) for name, values in scores.items() if values}


def curve_metrics(history: Mapping[str, Any], timestamp_ms: int) -> Iterator[Metric]:
    """Yield the learning curves as metrics ``curve/<arm>/<name>`` whose step is the epoch."""
    from mlflow.entities import Metric

    for arm, epochs in by_arm(history, "epoch").items():
        for entry in epochs:
            for name, value in entry.items():
                if name != "epoch" and is_number(value):
                    yield Metric(f"curve/{arm}/{name}", float(value), timestamp_ms, int(entry["epoch"]))


def dataset_inputs(dataset_path: Path, split_path: Path) -> list[DatasetInput]:
    """Return the train, validation and test parts as MLflow dataset inputs, each with a digest of its own."""
    from mlflow.data.meta_dataset import MetaDataset
    from mlflow.data.sources import LocalArtifactDatasetSource
    from mlflow.entities import DatasetInput, InputTag

    manifest = read_json(dataset_path, DatasetFile.MANIFEST)
    name = str(manifest.get("source", {}).get("kind", "dataset"))
    source = LocalArtifactDatasetSource(str(dataset_path / DatasetFile.INTERACTIONS))
    inputs = []
    for part in (Split.TRAIN, Split.VALIDATION, Split.TEST):
        digest = sha256_json([read_digest(dataset_path), read_digest(split_path), part])[:MAX_DIGEST_CHARS]
        dataset = MetaDataset(source=source, name=f"{name}/{part}", digest=digest)
        tags = [InputTag("mlflow.data.context", str(part))]
        inputs.append(DatasetInput(dataset=dataset._to_mlflow_entity(), tags=tags))
    return inputs


def code_tags() -> dict[str, str]:
    """Return the digest of the library's code, and the commit where the project is a git checkout."""
    tags = {"lorefuse.code_sha256": code_digest(*_ROOMS)}
    git = shutil.which("git")
    if git is None:
        return tags
    command = [git, "-C", str(settings().project_path), "rev-parse", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  (no user input)
    return tags | ({"lorefuse.git_commit": done.stdout.strip()} if done.returncode == 0 else {})
