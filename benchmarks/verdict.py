"""What a benchmark says in the end: in which stage, beside whom, how much faster, and whether that is what we want.

A benchmark prints its own tables; `give` adds a line for `bench.py`, which gathers those of all stages.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

FILE_VARIABLE = "LOREFUSE_VERDICTS_PATH"
"""Environment variable: the file that lines are added to; not set where a benchmark runs by itself."""


@dataclass(frozen=True)
class Verdict:
    """One ratio, or one cost.

    Attributes:
        stage: e.g. ``online features``.
        case: What was done, e.g. ``1000 entities``.
        peer: Beside whom.
        low: Smallest of the rounds.
        middle: Their median.
        high: Largest of them.
        num_rounds: How many there were.
        unit: ``x``: so many times faster than the peer; otherwise what the figures are in.
        goal: What the median should reach; None: only reported.
        at_most: The goal is a bound from above.
    """

    stage: str
    case: str
    peer: str
    low: float
    middle: float
    high: float
    num_rounds: int
    unit: str = "x"
    goal: float | None = None
    at_most: bool = False

    @property
    def reached(self) -> bool | None:
        """Whether the median reaches the goal; None without one."""
        if self.goal is None:
            return None
        return self.middle <= self.goal if self.at_most else self.middle >= self.goal

    @property
    def found(self) -> str:
        """Median and range, for people."""
        one = f"{figure(self.middle)} {self.unit}" if self.unit != "x" else f"{figure(self.middle)}x"
        return one if self.num_rounds == 1 else f"{one} [{figure(self.low)}-{figure(self.high)}]"

    @property
    def wanted(self) -> str:
        """The goal, for people; empty without one."""
        if self.goal is None:
            return ""
        return f"{'≤' if self.at_most else '≥'} {figure(self.goal)}{'x' if self.unit == 'x' else ' ' + self.unit}"


def give(
    stage: str,
    case: str,
    peer: str,
    values: Sequence[float],
    *,
    goal: float | None = None,
    unit: str = "x",
    at_most: bool = False,
) -> None:
    """Add a verdict to the file that `bench.py` reads; do nothing where nobody asks.

    Args:
        stage: See `Verdict`, as all others.
        case: What was done.
        peer: Beside whom.
        values: One ratio, or cost, a round.
        goal: What their median should reach.
        unit: Of the values.
        at_most: The goal is a bound from above.
    """
    if FILE_VARIABLE in os.environ:
        spread_of = min(values), median(values), max(values)
        verdict = Verdict(stage, case, peer, *spread_of, len(values), unit, goal, at_most)
        with Path(os.environ[FILE_VARIABLE]).open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(verdict)) + "\n")


def read(path: Path) -> list[Verdict]:
    """Return the verdicts of a file, none where there is none."""
    lines = path.read_text("utf-8").splitlines() if path.is_file() else []
    return [Verdict(**json.loads(line)) for line in lines]


def figure(value: float) -> str:
    """Return a number with about three figures."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def spread(ratios: Sequence[float]) -> str:
    """Return median and range of ratios."""
    return f"{median(ratios):.2f}x [{min(ratios):.2f}-{max(ratios):.2f}]"
