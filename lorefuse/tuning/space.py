"""The search space: ranges around what is known to work, one line a hyper-parameter.

``training`` searches the loop and dropout alone. ``joint`` searches model family, width, fusion, initial ids and
alignment with them: a conditional space, in which a family without fusion draws none and a temperature is drawn only
where there is an alignment loss. Without knowledge there is nothing to fuse, so the control draws none of that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lorefuse.config import PipelineConfig
from lorefuse.config.models import FieldConfig, model_class

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
CHOICES: dict[str, tuple[Any, ...]] = {
    "embedding_dim": (8, 16, 32),
    "fusion": ("residual", "concat", "weighted", "attention", "gated", "bilinear", "null_space"),
    "init": ("random", "text"),
    "alignment": (False, True),
}
ALIGNMENT: dict[str, tuple[float, float, bool]] = {
    "alignment_weight": (1e-3, 0.3, True),
    "alignment_temperature": (0.05, 1.0, True),
}


def suggest(trial: Trial, config: PipelineConfig, arm: str = "real") -> dict[str, Any]:
    """Draw one set of hyper-parameters.

    Args:
        trial: Optuna's trial.
        config: `tuning.space` and `tuning.families` decide what is drawn.
        arm: Knowledge of the model that is tuned.
    """
    params: dict[str, Any] = {
        name: trial.suggest_float(name, low, high, log=log) for name, (low, high, log) in RANGES.items()
    }
    if config.tuning.space == "training":
        return params
    params["family"] = trial.suggest_categorical("family", config.tuning.families)
    if not issubclass(model_class(params["family"]), FieldConfig):
        return params
    params["embedding_dim"] = trial.suggest_categorical("embedding_dim", CHOICES["embedding_dim"])
    if arm == "none":
        return params
    for name in ("fusion", "init"):
        params[name] = trial.suggest_categorical(name, CHOICES[name])
    params["alignment_weight"] = 0.0
    if trial.suggest_categorical("alignment", CHOICES["alignment"]):
        for name, (low, high, log) in ALIGNMENT.items():
            params[name] = trial.suggest_float(name, low, high, log=log)
    return params


def nearest(params: Mapping[str, Any]) -> dict[str, float]:
    """Return the point of the training space that is nearest to `params`, which may lie outside (a decay of 0, say)."""
    return {name: min(max(params[name], low), high) for name, (low, high, _) in RANGES.items()}
