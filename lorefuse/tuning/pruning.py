"""Pruning: a trial that falls behind is stopped, judged by Optuna's median rule against finished trials."""

from __future__ import annotations

from collections.abc import Callable, Sequence

STARTUP_TRIALS = 2
"""Nothing is pruned before so many finished trials."""


class Pruner:
    """Decides after each epoch whether a trial goes on.

    Args:
        curves: Validation scores by epoch of the finished trials.

    Attributes:
        curve: Scores of this trial so far.
        pruned: Whether it was stopped.

    Source: Optuna's MedianPruner, which follows Golovin et al., KDD 2017: stop where the best score so far is worse
    than the median of the others' scores at that epoch.
    """

    def __init__(self, curves: Sequence[Sequence[float]]) -> None:
        import optuna

        study = optuna.create_study(
            direction="maximize",
            pruner=optuna.pruners.MedianPruner(n_startup_trials=STARTUP_TRIALS, n_warmup_steps=0),
        )
        for curve in curves:
            study.add_trial(
                optuna.trial.create_trial(value=max(curve), intermediate_values=dict(enumerate(curve, start=1)))
            )
        self._trial = study.ask()
        self.curve: list[float] = []
        self.pruned = False

    def __call__(self, epoch: int, score: float) -> bool:
        """Take in an epoch's score; True stops the trial."""
        self.curve.append(score)
        self._trial.report(score, epoch)
        self.pruned = bool(self._trial.should_prune())
        return self.pruned


def never(curve: list[float]) -> Callable[[int, float], bool]:
    """Return a callback that only keeps the scores."""

    def keep(epoch: int, score: float) -> bool:
        curve.append(score)
        return False

    return keep
