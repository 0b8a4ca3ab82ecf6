"""Halving under a budget, with trainings that only take time on a clock of the test's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from lorefuse.auto.race import DONE, FAILED, LEFT_OUT, NOT_TRIED, Budget, Outcome, Rung, next_step, race, winner

NAMES = ["a", "b", "c", "d", "e", "f", "g", "h"]


@dataclass
class Trainings:
    """Each takes `cost_s` seconds for all users; what comes later in the alphabet is better."""

    cost_s: float
    failing: tuple[str, ...] = ()
    now_s: float = 0.0
    begun: list[tuple[str, float]] = field(default_factory=list)
    budget: Budget = field(init=False)

    def run(self, names: Sequence[str], share: float) -> list[Outcome]:
        outcomes = []
        for name in names:
            if self.budget.left_s <= 0:
                outcomes.append(Outcome(name, NOT_TRIED))
                continue
            self.begun.append((name, share))
            took_s = self.cost_s * share
            self.now_s += took_s
            state = FAILED if name in self.failing else DONE
            outcomes.append(Outcome(name, state, None if state == FAILED else float(ord(name)), took_s))
        return outcomes

    def race(self, budget_s: float, first_share: float = 0.125) -> list[Rung]:
        self.budget = Budget(budget_s, lambda: self.now_s)
        return race(NAMES, self.run, self.budget, first_share=first_share, num_workers=1)


def _won(rungs: Sequence[Rung]) -> tuple[str, float]:
    found = winner(rungs)
    assert found is not None
    return found[0].name, found[1].share


def test_with_time_enough_nobody_is_stopped() -> None:
    trainings = Trainings(cost_s=1.0)
    rungs = trainings.race(1000.0)
    assert [(rung.share, len(rung.outcomes)) for rung in rungs] == [(0.125, 8), (1.0, 8)]
    assert _won(rungs) == ("h", 1.0)


def test_half_of_them_go_on_with_twice_the_users_where_time_is_short() -> None:
    rungs = Trainings(cost_s=10.0).race(60.0)
    assert [(rung.share, len(rung.outcomes)) for rung in rungs] == [(0.125, 8), (0.25, 4), (0.5, 2), (1.0, 2)]
    assert _won(rungs) == ("h", 1.0)


def test_what_cannot_be_paid_is_not_begun() -> None:
    trainings = Trainings(cost_s=80.0)
    rungs = trainings.race(100.0)
    assert [(rung.share, len(rung.outcomes)) for rung in rungs] == [(0.125, 8)]
    assert trainings.now_s <= 100.0
    assert _won(rungs) == ("h", 0.125)


def test_a_first_rung_that_is_cut_short_still_chooses() -> None:
    trainings = Trainings(cost_s=80.0)
    rungs = trainings.race(25.0)
    assert [one.state for one in rungs[0].outcomes] == [DONE] * 3 + [NOT_TRIED] * 5
    assert _won(rungs) == ("c", 0.125)


def test_nothing_tried_is_no_winner() -> None:
    rung = Rung(1.0, (Outcome("a", NOT_TRIED), Outcome("b", FAILED)))
    assert winner([rung]) is None
    assert next_step(rung, 100.0, 1) is None


def test_a_later_rung_that_is_cut_short_does_not_choose() -> None:
    """One of two was not tried: the one that was is not the better one for that."""
    whole = Rung(0.5, (Outcome("a", DONE, 0.9, 1.0), Outcome("b", DONE, 0.8, 1.0)))
    cut = Rung(1.0, (Outcome("b", DONE, 0.85, 1.0), Outcome("a", NOT_TRIED)))
    assert _won([whole, cut]) == ("a", 0.5)


def test_a_failed_one_is_written_down_and_the_race_goes_on() -> None:
    rungs = Trainings(cost_s=1.0, failing=("h",)).race(1000.0)
    assert [one.state for one in rungs[0].outcomes if one.name == "h"] == [FAILED]
    assert "h" not in [one.name for one in rungs[1].outcomes]
    assert _won(rungs) == ("g", 1.0)


def test_one_that_was_left_out_does_not_end_the_race() -> None:
    rung = Rung(0.5, (Outcome("a", DONE, 0.5, 1.0), Outcome("b", DONE, 0.6, 1.0), Outcome("c", LEFT_OUT)))
    assert next_step(rung, 100.0, 1) == (["b", "a"], 1.0)


def test_of_equals_the_first_wins() -> None:
    rung = Rung(1.0, (Outcome("a", DONE, 0.5), Outcome("b", DONE, 0.5)))
    assert rung.ranked[0].name == "a"


@given(cost_s=st.floats(0.01, 500), budget_s=st.floats(0.01, 1000), first_share=st.floats(0.125, 1))
def test_the_budget_is_overrun_by_less_than_one_training(cost_s: float, budget_s: float, first_share: float) -> None:
    trainings = Trainings(cost_s)
    rungs = trainings.race(budget_s, first_share)
    last_share = trainings.begun[-1][1]
    assert trainings.now_s <= budget_s + cost_s * last_share + 1e-6
    assert winner(rungs) is not None
    assert [rung.share for rung in rungs] == sorted({rung.share for rung in rungs})
