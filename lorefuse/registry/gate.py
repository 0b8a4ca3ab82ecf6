"""The gate: a challenger becomes champion when it is sane and not significantly worse on the same test set."""

from __future__ import annotations

import json
import logging
import math
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lorefuse.config import PipelineConfig
from lorefuse.core.errors import ArtifactError
from lorefuse.core.schema import ROW_ID, Alias, Split, Tensor
from lorefuse.export.bundle import RANKER_FILE, Bundle
from lorefuse.leaks.files import MEMBERSHIP_FILE
from lorefuse.lists.stage_files import LIST_VALUES_FILE, LISTS_FILE
from lorefuse.registry import flavor
from lorefuse.registry.lineage import LIST_TAG
from lorefuse.registry.run import DATASET_TAG, SPLIT_TAG
from lorefuse.registry.tracking import connect, explained
from lorefuse.registry.version import TAG, aliases, fetch, get_version, promote
from lorefuse.retrieval.evaluate import interval as list_interval
from lorefuse.training.compare import MIN_USERS, Comparison, compare
from lorefuse.training.evaluation import is_number, main_split, read_json
from lorefuse.training.row_metrics import METRICS, parse_metric, subset_mask
from lorefuse.training.summary import verdict

if TYPE_CHECKING:
    import pandas as pd
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

SCORES_FILE = "user_scores.parquet"
SCORE_COLUMNS = (ROW_ID, "user_row", "label", "score", "cold")
MEANING_FILES = ("vocabularies.json", "reducer.safetensors", "embedding.json")
"""They give indices and vector dimensions their meaning: another model's inputs fit only where these are equal."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class GateDecision:
    """What the gate decided.

    Attributes:
        promoted: Whether the version is champion now.
        reason: In words, with the numbers.
        metrics: The new model's metric, and the champion's where there was one.
        interval: 95 % interval of the gain over the champion; None where there was nothing to compare.
    """

    promoted: bool
    reason: str
    metrics: dict[str, float] = field(default_factory=dict)
    interval: tuple[float, float] | None = None


def gate(
    config: PipelineConfig,
    version: str,
    evaluation_path: Path,
    *,
    training_set_path: Path | None = None,
    membership_path: Path | None = None,
) -> GateDecision:
    """Judge a version and make it champion where it deserves it; the decision becomes tags of the version.

    A model whose list is worse than popularity, beyond its interval, is refused, and so is one that knowledge hurt, by
    the verdict of its own run. Else the first sane one is promoted.
    A later one is promoted when the upper end of the 95 % interval of its gain over the champion (paired bootstrap over
    users, same test rows) is not below zero, and where its list is not worse than the champion's in the same sense. On
    another test set than the champion's, the champion's ONNX model scores the new rows where its inputs fit; else the
    gate refuses, and a person decides: ``lorefuse promote``. With `registry.require_beats_shuffled` a model is refused
    unless its interval over the shuffled control (from the evaluation) lies on the better side of zero. With
    `registry.max_membership_auc` a model is refused whose train rows can be told better than that.

    Args:
        config: Names the model, the gate metric and the number of resamples.
        version: Number or alias of the version to judge.
        evaluation_path: Folder with the version's `user_scores.parquet`.
        training_set_path: Training set whose test rows a champion of another test set would have to score.
        membership_path: Folder with `membership.json` (step `membership`).

    Raises:
        ArtifactError: The scores are not there or not whole.
        ConfigError: The gate knows no such metric.
    """
    parse_metric(config.registry.gate_metric)
    client, name = connect(), config.registry.model_name
    entry = get_version(name, version, client)
    scores = read_scores(evaluation_path)
    champion = aliases(name, client).get(Alias.CHAMPION)
    decision = _sanity(config, scores) or against_popularity(_lists_of(entry))
    decision = decision or _against_nothing(config, evaluation_path)
    if decision is None and config.registry.require_beats_shuffled:
        decision = _against_shuffled(config, evaluation_path)
    decision = decision or against_membership(config, membership_path)
    if decision is None:
        if champion is None:
            value = _value(config.registry.gate_metric, scores)
            text = f"first model; {config.registry.gate_metric} {value:.4f}"
            decision = GateDecision(True, text, {config.registry.gate_metric: value})
        elif champion == str(entry.version):
            value = _value(config.registry.gate_metric, scores)
            decision = GateDecision(True, "already champion", {config.registry.gate_metric: value})
        else:
            decision = _against(config, entry, get_version(name, champion, client), scores, training_set_path)
    _write(client, entry, decision)
    if decision.promoted:
        promote(name, str(entry.version), Alias.CHAMPION, client)
    _log.info("Gate: version %s %s: %s", entry.version, _word(decision), decision.reason)
    return decision


def read_scores(evaluation_path: Path) -> pd.DataFrame:
    """Return a model's test scores: row_id, user_row, label, score, cold; sorted by row_id.

    Raises:
        ArtifactError: The file is missing, cut short, empty or lacks a column.
    """
    import pandas as pd

    path = evaluation_path / SCORES_FILE
    try:
        frame = pd.read_parquet(path)
    except (OSError, ValueError) as error:  # pyarrow.ArrowInvalid is a ValueError
        raise ArtifactError(f"{path} cannot be read.", got=str(error)[:200], fix="train again: lorefuse run") from None
    missing = [column for column in SCORE_COLUMNS if column not in frame]
    if missing or frame.empty:
        got = f"no column {', '.join(missing)}" if missing else "no row"
        raise ArtifactError(f"{path} cannot be used.", expected=", ".join(SCORE_COLUMNS), got=got, fix="lorefuse run")
    return frame.sort_values(ROW_ID, ignore_index=True)


def _sanity(config: PipelineConfig, scores: pd.DataFrame) -> GateDecision | None:
    """Return a refusal where the model is not sane, else None."""
    name = config.registry.gate_metric
    value = _value(name, scores)
    if not np.isfinite(scores["score"]).all():
        return GateDecision(False, "refused: some test scores are not finite", {name: value})
    if not math.isfinite(value):
        return GateDecision(False, f"refused: {name} cannot be computed on this test set (too few rows of one kind)")
    if config.data.label.kind == "binary":
        auc_all = _value("auc_all", scores)
        if not auc_all > 0.5:
            return GateDecision(False, f"refused: auc_all {auc_all:.4f} is no better than chance", {name: value})
    return None


def _lists_of(entry: ModelVersion) -> dict[str, Any] | None:
    """Return what a version's list is worth; None where the ranker orders the whole catalogue."""
    if LIST_TAG not in entry.tags:
        return None
    with tempfile.TemporaryDirectory() as temporary:
        path = fetch(entry, f"{flavor.BUNDLE_FOLDER}/{LISTS_FILE}", Path(temporary))
        content: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return content


def against_popularity(content: dict[str, Any] | None) -> GateDecision | None:
    """Return a refusal where a list is worse than what everybody likes, beyond its interval over users.

    Args:
        content: `lists.json`; None: there is no list to judge.
    """
    if content is None or "popularity" not in content["gains"]:
        return None
    name = f"ndcg_at_{content['k']}_warm"
    gain, value = content["gains"]["popularity"][name], content["lists"]["served"]["metrics"][name]["mean"]
    if not is_number(gain["high"]) or gain["high"] >= 0:
        return None
    text = f"{name} {value:.4f}, {gain['mean']:+.4f} [{gain['low']:+.4f}, {gain['high']:+.4f}]"
    figures = {f"list_{name}": float(value)}
    return GateDecision(
        False, f"refused: the list is worse than popularity: {text}", figures, (gain["low"], gain["high"])
    )


def _against_list(config: PipelineConfig, entry: ModelVersion, champion: ModelVersion) -> GateDecision | None:
    """Return a refusal where a version's list is worse than the champion's for the same users, beyond the interval."""
    import pandas as pd

    if not all(LIST_TAG in version.tags for version in (entry, champion)):
        return None  # one of them has no list of this kind
    name, frames = f"ndcg_at_{config.retrieval.k}_warm", []
    with tempfile.TemporaryDirectory() as temporary:
        for number, version in enumerate((entry, champion)):
            file = f"{flavor.BUNDLE_FOLDER}/{LIST_VALUES_FILE}"
            frames.append(pd.read_parquet(fetch(version, file, Path(temporary) / str(number))))
    if any(name not in frame for frame in frames):
        return None  # the two were judged at other cuts
    new, old = (frame.set_index("user_row")[name] for frame in frames)
    gain = (new - old).dropna().to_numpy(np.float64)  # users of both
    low, high = list_interval(gain, config.evaluation.num_bootstraps)
    if len(gain) < MIN_USERS or high >= 0:
        return None
    text = f"{name} {gain.mean():+.4f}, 95 % interval [{low:+.4f}, {high:+.4f}] over {len(gain)} users"
    figures = {f"list_{name}": float(new.mean()), f"champion_list_{name}": float(old.mean())}
    return GateDecision(
        False, f"refused: the list is worse than that of champion {champion.version}: {text}", figures, (low, high)
    )


def _against_nothing(config: PipelineConfig, evaluation_path: Path) -> GateDecision | None:
    """Return a refusal where the run's own verdict is that knowledge hurt; None where it is not, or nobody asked."""
    if not (evaluation_path / "metrics.json").is_file():
        return None
    name = config.registry.gate_metric
    metrics = read_json(evaluation_path, "metrics.json")
    content = metrics["splits"][main_split(metrics, config.split.strategy)]
    gap = content.get("differences", {}).get("none", {}).get(name)
    if gap is None or not all(is_number(gap.get(end)) for end in ("mean", "low", "high")):
        return None
    if verdict(gap, METRICS[parse_metric(name)[0]][1] < 0) != "hurt":
        return None
    interval = (float(gap["low"]), float(gap["high"]))
    text = f"{name} {gap['mean']:+.4f}, 95 % interval [{interval[0]:+.4f}, {interval[1]:+.4f}] against none"
    return GateDecision(False, f"refused: knowledge hurt: {text}; serve the same model without it", {}, interval)


def _against_shuffled(config: PipelineConfig, evaluation_path: Path) -> GateDecision | None:
    """Return a refusal where the knowledge cannot be told apart from the same knowledge given to the wrong items."""
    name = config.registry.gate_metric
    metrics = read_json(evaluation_path, "metrics.json")
    content = metrics["splits"][main_split(metrics, config.split.strategy)]
    gap = content.get("differences", {}).get("shuffled", {}).get(name)
    if gap is None or not all(is_number(gap.get(end)) for end in ("mean", "low", "high")):
        return GateDecision(
            False,
            f"refused: {name} was not compared with shuffled knowledge; add `shuffled` to evaluation.arms, and let "
            "registry.gate_metric be one of warm or cold rows",
        )
    is_better = gap["high"] < 0 if METRICS[parse_metric(name)[0]][1] < 0 else gap["low"] > 0
    if is_better:
        return None
    interval = (float(gap["low"]), float(gap["high"]))
    text = f"{name} {gap['mean']:+.4f}, 95 % interval [{interval[0]:+.4f}, {interval[1]:+.4f}]"
    return GateDecision(False, f"refused: real knowledge does not beat shuffled knowledge: {text}", {}, interval)


def against_membership(config: PipelineConfig, membership_path: Path | None) -> GateDecision | None:
    """Return a refusal where a model's train rows can be told better than allowed, or nobody has measured it.

    Args:
        config: Its `registry.max_membership_auc` is the bound; None: there is none.
        membership_path: Folder with `membership.json`.

    Raises:
        ArtifactError: The file is not whole.
    """
    bound = config.registry.max_membership_auc
    if bound is None:
        return None
    if membership_path is None:
        return GateDecision(False, "refused: registry.max_membership_auc is set, and no attack was tried")
    auc = read_json(membership_path, MEMBERSHIP_FILE)["halves"]["lira"]["auc"]
    if is_number(auc["mean"]) and auc["mean"] <= bound:
        return None
    value = f"{auc['mean']:.4f}" if is_number(auc["mean"]) else "not to be computed"
    known = is_number(auc["low"])
    text = f"membership AUC {value}" + (f", 95 % interval [{auc['low']:.4f}, {auc['high']:.4f}]" if known else "")
    interval = (float(auc["low"]), float(auc["high"])) if known else None
    figures = {"membership_auc": float(auc["mean"])} if is_number(auc["mean"]) else {}
    return GateDecision(False, f"refused: train rows can be told: {text}, allowed {bound:g}", figures, interval)


def _against(
    config: PipelineConfig,
    entry: ModelVersion,
    champion: ModelVersion,
    scores: pd.DataFrame,
    training_set_path: Path | None,
) -> GateDecision:
    metric = config.registry.gate_metric
    same = all(entry.tags.get(tag) == champion.tags.get(tag) for tag in (DATASET_TAG, SPLIT_TAG))
    with tempfile.TemporaryDirectory() as temporary:
        if same:
            old = read_scores(fetch(champion, flavor.EVALUATION_FOLDER, Path(temporary)))
            how = "the same test set"
            if not scores[[ROW_ID, "label"]].equals(old[[ROW_ID, "label"]]):
                return GateDecision(False, f"refused: version {champion.version} was scored on other test rows")
            old_score = old["score"].to_numpy(np.float64)
        else:
            bundle = Bundle.load(fetch(champion, flavor.BUNDLE_FOLDER, Path(temporary)))
            new_bundle = Bundle.load(fetch(entry, flavor.BUNDLE_FOLDER, Path(temporary) / "new"))
            obstacle = _obstacle(bundle, new_bundle, training_set_path)
            if obstacle or training_set_path is None:
                text = (
                    f"refused: champion {champion.version} saw another test set and cannot score this one: {obstacle}"
                )
                return GateDecision(False, f"{text}; decide by hand: lorefuse promote {entry.version}")
            old_score = _rescore(bundle, training_set_path, scores)
            how = "this test set, scored anew (it may have been trained on some of these rows)"
    worse = _against_list(config, entry, champion) if same else None
    if worse is not None:
        return worse
    result = _compare(metric, config.evaluation.num_bootstraps, scores, old_score)
    if not math.isfinite(result.interval[1]):
        return GateDecision(
            False,
            f"refused: the interval of {metric} cannot be computed ({result.num_users} users)",
            {metric: result.new},
        )
    text = (
        f"{metric} {result.new:.4f} against {result.old:.4f} of champion {champion.version} on {how}: "
        f"gain {result.gain:+.4f}, 95 % interval [{result.low:+.4f}, {result.high:+.4f}] over {result.num_users} users"
    )
    metrics = {metric: result.new, f"champion_{metric}": result.old}
    if result.high < 0:
        return GateDecision(False, f"refused, significantly worse: {text}", metrics, (result.low, result.high))
    return GateDecision(True, f"not significantly worse: {text}", metrics, (result.low, result.high))


def _obstacle(champion: Bundle, new: Bundle, training_set_path: Path | None) -> str:
    """Return why the champion cannot score the new rows; empty where it can."""
    if training_set_path is None:
        return "no training set was given"
    old_spec, new_spec = champion.spec(), new.spec()
    for tensor in (*old_spec.user_tensors, *old_spec.item_tensors):
        if tensor == Tensor.USER_HISTORY:
            continue  # made anew at whatever length the champion reads
        if old_spec.width(tensor) != new_spec.width(tensor):
            return f"{tensor} has width {new_spec.width(tensor)}, the champion reads {old_spec.width(tensor)}"
    if (old_spec.user_numeric, old_spec.item_numeric) != (new_spec.user_numeric, new_spec.item_numeric):
        return "its numeric features are others"
    for name in MEANING_FILES:
        if champion.sha256.get(name) != new.sha256.get(name):
            return f"its {name} is another"
    return ""


def _rescore(champion: Bundle, training_set_path: Path, scores: pd.DataFrame) -> Any:
    import onnxruntime

    from lorefuse.features.history import with_history
    from lorefuse.training_set.arrays import TrainingSet

    training_set = with_history(TrainingSet.load(training_set_path), champion.spec().history_length)
    rows = scores[ROW_ID].to_numpy(np.int64)
    if not np.array_equal(rows, np.sort(training_set.rows_of(Split.TEST))):
        raise ArtifactError(
            f"{training_set_path} does not hold the rows of this test set.", fix="give the training set of this run"
        )
    session = onnxruntime.InferenceSession(str(champion.path / RANKER_FILE), providers=["CPUExecutionProvider"])
    wanted = [entry.name for entry in session.get_inputs()]
    inputs = {name: array for name, array in training_set.inputs(rows).items() if name in wanted}
    return np.asarray(session.run(None, inputs)[0], dtype=np.float64).reshape(-1)


def _compare(metric: str, num_bootstraps: int, scores: pd.DataFrame, old_score: Any) -> Comparison:
    return compare(
        metric,
        scores["label"].to_numpy(np.float64),
        scores["score"].to_numpy(np.float64),
        old_score,
        scores["user_row"].to_numpy(np.int64),
        scores["cold"].to_numpy(bool),
        num_bootstraps=num_bootstraps,
    )


def _value(metric: str, scores: pd.DataFrame) -> float:
    base, subset = parse_metric(metric)
    part = scores[subset_mask(scores["cold"].to_numpy(bool), subset)]
    label, score = part["label"].to_numpy(np.float64), part["score"].to_numpy(np.float64)
    return METRICS[base][0](label, score, None, part["user_row"].to_numpy(np.int64))


def _write(client: MlflowClient, entry: ModelVersion, decision: GateDecision) -> None:
    tags = {
        "gate": _word(decision),
        "gate_reason": decision.reason,
        "gate_metrics": json.dumps(asdict(decision)["metrics"]),
    }
    if decision.interval:
        tags["gate_interval"] = json.dumps(decision.interval)
    with explained("write down the decision"):
        for name, text in tags.items():
            client.set_model_version_tag(entry.name, entry.version, f"{TAG}{name}", text)


def _word(decision: GateDecision) -> str:
    return "promoted" if decision.promoted else "refused"
