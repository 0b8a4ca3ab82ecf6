"""The search space: ranges around what is known to work, one line a hyper-parameter."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from optuna.trial import Trial


def suggest(trial: Trial) -> dict[str, float]:
    """Draw one set of hyper-parameters."""
    return {
        "learning_rate": trial.suggest_float("learning_rate", 1e-3, 4e-3, log=True),
        "weight_decay": trial.suggest_float("weight_decay", 3e-2, 1.0, log=True),
        "embedding_l2": trial.suggest_float("embedding_l2", 3e-2, 1.0, log=True),
        "dropout": trial.suggest_float("dropout", 0.1, 0.4),
        "id_dropout": trial.suggest_float("id_dropout", 0.05, 0.3),
    }
