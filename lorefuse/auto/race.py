"""Successive halving under a budget: all start on few rows, the better ones go on with more.

Source: Jamieson and Talwalkar 2016, arXiv:1502.07943, and Hyperband, arXiv:1603.06560; the resource is a share of the
users. Unlike there, a rung is as large as the budget allows: where all of the remaining configurations can be trained
on all rows, none is stopped before that.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

DONE, FAILED, NOT_TRIED, LEFT_OUT = "done", "failed", "not tried", "left out"
"""A rung with one that was not tried is cut short; one that was left out never was in the race."""
KEPT_SHARE = 0.5
"""Of a rung's configurations that go on where not all can."""
WHOLE_SHARE = 0.5
"""Of the remaining budget that training all of the rest on all rows may take."""


@dataclass(frozen=True)
class Outcome:
    """What became of one configuration on one rung.

    Attributes:
        name: The configuration.
        state: `DONE`, `FAILED`, `NOT_TRIED` or `LEFT_OUT`.
        score: Higher is better; None unless done.
        train_s: Seconds it took.
        figures: Metrics, epochs, numbers of rows.
        error: What went wrong, or why it was not tried.
    """

    name: str
    state: str
    score: float | None = None
    train_s: float = 0.0
    figures: dict[str, Any] = field(default_factory=dict)
    error: str = ""


@dataclass(frozen=True)
class Rung:
    """One round: its share of the users, and an outcome for each configuration in it."""

    share: float
    outcomes: tuple[Outcome, ...]

    @property
    def ranked(self) -> list[Outcome]:
        """The finished ones, best first; of equals the one that was to be tried first."""
        done = [one for one in self.outcomes if one.state == DONE and one.score is not None]
        return sorted(done, key=lambda one: -(one.score or 0.0))

    @property
    def complete(self) -> bool:
        """Whether the budget was enough for all of them."""
        return all(one.state != NOT_TRIED for one in self.outcomes)


class Budget:
    """Seconds since it was made, and what is left of them."""

    def __init__(self, total_s: float, clock: Callable[[], float] = time.time) -> None:
        self.total_s, self.clock, self.start_s = total_s, clock, clock()

    @property
    def deadline_s(self) -> float:
        """Moment of the clock at which it is spent."""
        return self.start_s + self.total_s

    @property
    def spent_s(self) -> float:
        """Seconds that are gone."""
        return self.clock() - self.start_s

    @property
    def left_s(self) -> float:
        """Seconds that are left, below 0 where it is overrun."""
        return self.total_s - self.spent_s


Run = Callable[[Sequence[str], float], Sequence[Outcome]]
"""Names and a share of the users → an outcome for each; starts nothing once the budget is spent."""


def race(names: Sequence[str], run: Run, budget: Budget, *, first_share: float, num_workers: int) -> list[Rung]:
    """Run the race and return its rungs.

    Args:
        names: Configurations, in the order in which they are tried.
        run: Trains and judges.
        budget: Measured costs of the last rung decide how large the next one is, and whether there is one.
        first_share: Of the users on the first rung.
        num_workers: Trainings at a time.
    """
    rungs: list[Rung] = []
    step: tuple[Sequence[str], float] | None = (names, first_share)
    while step is not None:
        rungs.append(Rung(step[1], tuple(run(*step))))
        step = next_step(rungs[-1], budget.left_s, num_workers)
    return rungs


def next_step(rung: Rung, left_s: float, num_workers: int) -> tuple[list[str], float] | None:
    """Return who goes on, with which share of the users; None where the race is over."""
    ranked = rung.ranked
    if not rung.complete or rung.share >= 1 or len(ranked) < 2:
        return None

    def cost_s(num_kept: int, share: float) -> float:
        seconds = [one.train_s * share / rung.share for one in ranked[:num_kept]]
        return max(sum(seconds) / max(1, min(num_workers, num_kept)), *seconds)

    if cost_s(len(ranked), 1.0) <= WHOLE_SHARE * left_s:
        return [one.name for one in ranked], 1.0
    share = min(1.0, 2 * rung.share)
    for num_kept in range(max(2, math.ceil(KEPT_SHARE * len(ranked))), 1, -1):
        if cost_s(num_kept, share) <= left_s:
            return [one.name for one in ranked[:num_kept]], share
    return None


def winner(rungs: Sequence[Rung]) -> tuple[Outcome, Rung] | None:
    """Return the best of the last rung that the budget was enough for, and that rung; None where nothing is finished.

    Of a first rung that the budget cut short the best of what was tried counts.
    """
    for rung in reversed(rungs):
        if rung.ranked and (rung.complete or rung is rungs[0]):
            return rung.ranked[0], rung
    return None
