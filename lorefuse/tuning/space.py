"""The search space: ranges around what is known to work, one line a hyper-parameter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from optuna.trial import Trial

RANGES: dict[str, tuple[float, float, bool]] = {
    "learning_rate": (1e-3, 4e-3, True),
    "weight_decay": (3e-2, 1.0, True),
    "embedding_l2": (3e-2, 1.0, True),
    "dropout": (0.1, 0.4, False),
    "id_dropout": (0.05, 0.3, False),
}
"""Hyper-parameter → lowest and highest value, and whether it is drawn on a logarithmic scale."""


def suggest(trial: Trial) -> dict[str, float]:
    """Draw one set of hyper-parameters."""
    return {name: trial.suggest_float(name, low, high, log=log) for name, (low, high, log) in RANGES.items()}


def nearest(params: Mapping[str, float]) -> dict[str, float]:
    """Return the point of the space that is nearest to `params`, which may lie outside (a decay of 0, say)."""
    return {name: min(max(params[name], low), high) for name, (low, high, _) in RANGES.items()}
