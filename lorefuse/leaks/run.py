"""Measure what the ranker of a run gives away, and write it down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lorefuse.config import PipelineConfig
from lorefuse.core.atomic import write_json
from lorefuse.core.progress import track
from lorefuse.core.schema import TEXT, Split
from lorefuse.leaks.files import MEMBERSHIP_FILE, read_content
from lorefuse.leaks.halves import Half, HalfTask, looked_at, train_half
from lorefuse.leaks.ids import id_exposure
from lorefuse.leaks.membership import CURVE_POINTS, Attack, attack_figures, confidence, likelihood_ratios
from lorefuse.retrieval.evaluate import interval
from lorefuse.training.evaluate import RANKER_FOLDER
from lorefuse.training.pool import load_training_set, num_learners, run_parallel
from lorefuse.training.row_metrics import Array
from lorefuse.training.summary import without_nan
from lorefuse.training_set.arrays import TrainingSet


def measure_membership(
    rows_path: Path, evaluation_path: Path, config: PipelineConfig, out_path: Path
) -> dict[str, Any]:
    """Attack the registered ranker and models of random halves, and write `membership.json`.

    Args:
        rows_path: Training set.
        evaluation_path: Folder with the trained ranker and the tuned hyper-parameters.
        config: Section `leaks`: number of models, rows, users.
        out_path: Folder to write into.

    Returns:
        The headline.

    The file holds ``halves``: figures of `membership.attack_figures` for the attacks ``loss`` (a low loss means a
    member) and ``lira`` (see `membership.likelihood_ratios`) on models that were trained as the registered one is, each
    on a random half of the train rows; ``registered``: ``loss`` on the registered ranker, train rows against test rows
    of known items, which time alone may tell apart; ``ids``: see `_exposure`; ``curve_points``, ``num_models``,
    ``num_rows`` and ``privacy``, the guarantee that the ranker was trained with, or null.

    Source of the attack ``loss``: Yeom et al. 2018, arXiv:1709.01604, adversary 1 with a free threshold.
    """
    training_set, section = load_training_set(str(rows_path)), config.leaks
    metrics = read_content(evaluation_path / "metrics.json")
    tasks = [
        HalfTask(str(rows_path), config, metrics["best_params"]["real"], number) for number in range(section.num_models)
    ]
    made = run_parallel(train_half, tasks, num_learners(rows_path))
    halves = list(track(made, "Training on halves", total=len(tasks)))
    rows = looked_at(training_set, section.num_rows, section.seed)
    registered, exposed = _registered(training_set, evaluation_path, config)
    content = {
        "halves": attacked(halves, training_set.user_row[rows].astype(np.int64), section.num_bootstraps),
        "registered": {"loss": attack_figures([registered], section.num_bootstraps)},
        "ids": _exposure(halves, exposed, section.num_bootstraps),
        "curve_points": CURVE_POINTS.tolist(),
        "num_models": len(halves),
        "num_rows": len(rows),
        "privacy": metrics.get("privacy"),
    }
    write_json(out_path / MEMBERSHIP_FILE, without_nan(content))
    return headline(content)


def attacked(halves: Sequence[Half], user_R: NDArray[np.int64], num_bootstraps: int) -> dict[str, Any]:
    """Return how well the attacks ``loss`` and ``lira`` tell the rows of models of halves.

    Args:
        halves: The models.
        user_R: User of each looked-at row.
        num_bootstraps: Resamples of users.
    """
    sure_MR = np.stack([half.confidence for half in halves])
    is_in_MR = np.stack([half.is_in for half in halves])
    scores = {"loss": sure_MR, "lira": likelihood_ratios(sure_MR, is_in_MR)}
    return {
        name: attack_figures(
            [Attack(score_R, is_in_R, user_R) for score_R, is_in_R in zip(score_MR, is_in_MR, strict=True)],
            num_bootstraps,
        )
        for name, score_MR in scores.items()
    }


def _registered(
    training_set: TrainingSet, evaluation_path: Path, config: PipelineConfig
) -> tuple[Attack, tuple[Array, Array] | None]:
    """Return the loss attack on the registered ranker, and what its users' embeddings recover of train and test."""
    from lorefuse.models.build import load_ranker
    from lorefuse.training.train import score_rows

    ranker, section = load_ranker(evaluation_path / RANKER_FOLDER), config.leaks
    members = looked_at(training_set, section.num_rows, section.seed)
    test = training_set.rows_of(Split.TEST)
    others = test[(test < training_set.num_states) & ~training_set.cold[test]]
    rows = np.concatenate([members, others])
    scores = score_rows(ranker, training_set, rows).astype(np.float64)
    sure = confidence(training_set.label[rows].astype(np.float64), scores, training_set.spec.label_kind)
    attack = Attack(sure, np.arange(len(rows)) < len(members), training_set.user_row[rows].astype(np.int64))
    train = training_set.rows_of(Split.TRAIN)
    return attack, id_exposure(ranker, training_set, train, others, config, section.num_users)


def _exposure(
    halves: Sequence[Half], registered: tuple[Array, Array] | None, num_bootstraps: int
) -> dict[str, Any] | None:
    """Return the AUC of recovered likes: ``member``, ``control`` and ``difference``, with intervals over users.

    ``halves``: means over models, likes that a model was trained on beside those of the other half; ``registered``:
    train likes beside test likes. None for a ranker without embeddings of ids.
    """
    if registered is None:
        return None
    known = np.isfinite(registered[0]) & np.isfinite(registered[1])
    pair = [of[known] for of in registered]
    found = _paired(pair[0], pair[1], num_bootstraps)
    return {"halves": exposure_of_halves(halves, num_bootstraps), "registered": found}


def exposure_of_halves(halves: Sequence[Half], num_bootstraps: int) -> dict[str, Any]:
    """Return the AUC of likes that models were trained on, ``member``, and of the other half's, ``control``.

    Args:
        halves: Models with embeddings of ids.
        num_bootstraps: Resamples of users, whose values are means over the models.

    Returns:
        These and their ``difference``, each mean, low and high, and ``num_users``.
    """
    member, control = (np.stack([getattr(half, name) for half in halves]) for name in ("member_auc", "control_auc"))
    both = np.isfinite(member) & np.isfinite(control)
    count_U = both.sum(axis=0)
    pair = [np.where(both, of, 0).sum(axis=0)[count_U > 0] / count_U[count_U > 0] for of in (member, control)]
    return _paired(pair[0], pair[1], num_bootstraps)


def _paired(member_U: Array, control_U: Array, num_bootstraps: int) -> dict[str, Any]:
    parts = {"member": member_U, "control": control_U, "difference": member_U - control_U}
    figures: dict[str, Any] = {"num_users": len(member_U)}
    for name, value_U in parts.items():
        low, high = interval(value_U, num_bootstraps)
        figures[name] = {"mean": float(value_U.mean()) if len(value_U) else float("nan"), "low": low, "high": high}
    return figures


def read_leaks(membership_path: Path, rows_path: Path, embeddings_path: Path) -> dict[str, Any]:
    """Return what was measured of membership, and what the stored text vectors give away (``texts``).

    Args:
        membership_path: Folder with `membership.json`.
        rows_path: Training set, whose text vectors the bundle holds.
        embeddings_path: Full text vectors.

    Raises:
        ArtifactError: A file is missing or not whole.
    """
    from safetensors.numpy import load_file

    from lorefuse.leaks.texts import text_reconstruction

    content = read_content(membership_path / MEMBERSHIP_FILE)
    stored, texts = TrainingSet.load(rows_path).knowledge.get(TEXT), None
    if stored is not None:
        full = load_file(str(embeddings_path / "item_embeddings.safetensors"))["full"]
        texts = text_reconstruction(stored, full.astype(np.float32))
    return {**content, "texts": texts}


def headline(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures that a step prints."""
    lira = content["halves"]["lira"]
    lines = {"lira_auc": f"{lira['auc']['mean']:.4f}", "lira_tpr_at_1_percent": f"{lira['tpr']['mean']:.4f}"}
    if content["ids"] is not None:
        lines["ids_difference"] = f"{content['ids']['halves']['difference']['mean']:+.4f}"
    return lines
