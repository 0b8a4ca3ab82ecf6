"""Two samples → a verdict with its numbers: which features moved, whether the scores did, who is new."""

from __future__ import annotations

from typing import Any

import numpy as np

from lorefuse.config.drift import DriftConfig
from lorefuse.core.errors import DataError
from lorefuse.drift.centroid import centroid_shift
from lorefuse.drift.sample import Sample
from lorefuse.drift.statistics import Array, Binned, bin_categories, bin_numeric, ks, psi, psi_by_chance

SCORE = "score"


def compare(reference: Sample, fresh: Sample, config: DriftConfig) -> dict[str, Any]:
    """Hold a fresh sample against a reference.

    A feature has drifted where its PSI is at least `drift.psi` and above what chance gives, or its KS distance is at
    least `drift.ks` with a p-value below `drift.alpha`. All is drift where `drift.drifted_share` of the features have
    drifted, the scores have, a centroid has moved, or too many users or items are unknown.

    Args:
        reference: Rows that the model is known to hold on, e.g. its test rows.
        fresh: New rows, with features made in the same way.
        config: Thresholds.

    Returns:
        JSON-able: num_reference, num_fresh, features, score, vectors, unseen, drifted, reasons.

    Raises:
        DataError: A sample is empty.
    """
    for name, sample in (("reference", reference), ("fresh", fresh)):
        if not sample.num_rows:
            raise DataError(f"The {name} sample of drift is empty.", expected="at least one row", got="none")
    features = {
        name: _numeric(reference.numeric[name], fresh.numeric[name], config)
        for name in reference.numeric
        if name in fresh.numeric
    } | {
        name: _category(bin_categories(reference.categories[name], fresh.categories[name]), config)
        for name in reference.categories
        if name in fresh.categories
    }
    score = None
    if reference.score is not None and fresh.score is not None:
        score = _numeric(reference.score, fresh.score, config)
    content: dict[str, Any] = {
        "num_reference": reference.num_rows,
        "num_fresh": fresh.num_rows,
        "features": features,
        "score": score,
        "vectors": _vectors(reference, fresh, config),
        "unseen": {
            "users": _unseen(reference.unseen_users, fresh.unseen_users, config.max_unseen_users),
            "items": _unseen(reference.unseen_items, fresh.unseen_items, config.max_unseen_items),
        },
        "thresholds": config.model_dump(mode="json"),
    }
    reasons = _reasons(content, config)
    return {**content, "drifted": bool(reasons), "reasons": reasons}


def _numeric(reference: Array, fresh: Array, config: DriftConfig) -> dict[str, Any]:
    entry = _category(bin_numeric(reference, fresh, config.num_bins), config)
    distance, p_value = ks(reference, fresh)
    by_ks = distance >= config.ks and p_value < config.alpha
    return entry | {
        "kind": "numeric",
        "ks": distance,
        "ks_p": p_value,
        "reference_mean": float(reference.mean()),
        "fresh_mean": float(fresh.mean()),
        "drifted": entry["drifted"] or by_ks,
    }


def _category(binned: Binned, config: DriftConfig) -> dict[str, Any]:
    index, by_chance = psi(binned), psi_by_chance(binned, config.alpha)
    return {
        "kind": "category",
        "psi": index,
        "psi_by_chance": by_chance,
        "bins": {
            "labels": list(binned.labels),
            "reference": np.round(binned.reference, 6).tolist(),
            "fresh": np.round(binned.fresh, 6).tolist(),
        },
        "drifted": index >= config.psi and index > by_chance,
    }


def _vectors(reference: Sample, fresh: Sample, config: DriftConfig) -> dict[str, Any]:
    found = {}
    for name, table in reference.vectors.items():
        if name not in fresh.vectors:
            continue
        shift = centroid_shift(
            table, fresh.vectors[name], alpha=config.alpha, num_bootstraps=config.num_bootstraps, seed=config.seed
        )
        found[name] = {
            "cosine_distance": shift.cosine_distance,
            "shift": shift.shift,
            "shift_by_chance": shift.by_chance,
            "relative": shift.relative,
            "drifted": shift.cosine_distance >= config.centroid and shift.shift > shift.by_chance,
        }
    return found


def _unseen(reference: float, fresh: float, limit: float) -> dict[str, Any]:
    return {"reference": reference, "fresh": fresh, "limit": limit, "drifted": fresh > limit}


def _reasons(content: dict[str, Any], config: DriftConfig) -> list[str]:
    """Return in words what makes this drift; nothing where it is none."""
    features = content["features"]
    drifted = [name for name, entry in features.items() if entry["drifted"]]
    reasons = []
    if features and len(drifted) >= config.drifted_share * len(features):
        reasons.append(f"{len(drifted)} of {len(features)} features have drifted: {', '.join(drifted)}")
    if content["score"] and content["score"]["drifted"]:
        entry = content["score"]
        reasons.append(f"the scores have drifted (PSI {entry['psi']:.2f}, KS {entry['ks']:.2f})")
    for name, entry in content["vectors"].items():
        if entry["drifted"]:
            reasons.append(f"the {name} centroid has moved by a cosine distance of {entry['cosine_distance']:.2f}")
    for name, entry in content["unseen"].items():
        if entry["drifted"]:
            reasons.append(f"{entry['fresh']:.0%} of the rows are of {name} that the model does not know")
    return reasons
