"""Finished, pruned and failed trials are told apart."""

from __future__ import annotations

from lorefuse.report.trials import tuning


def test_pruned_and_failed_trials_stand_apart_and_are_never_best() -> None:
    records = [
        {"number": 0, "state": "COMPLETE", "value": 0.5},
        {"number": 1, "state": "PRUNED", "value": 0.9},
        {"number": 2, "state": "FAIL", "value": None},
        {"number": 3, "state": "COMPLETE", "value": 0.4},
        {"number": 4, "state": "COMPLETE", "value": 0.6},
    ]
    figure = tuning({"real": records})
    assert figure is not None
    found = {trace.name: (list(trace.x), list(trace.y)) for trace in figure.data}
    assert found == {
        "real": ([0, 3, 4], [0.5, 0.4, 0.6]),
        "real, best so far": ([0, 3, 4], [0.5, 0.5, 0.6]),
        "real, pruned": ([1], [0.9]),
        "real, failed, no value": ([2], [0.4]),  # at the foot
    }
    symbols = {trace.name: trace.marker.symbol for trace in figure.data}
    assert len({symbols[name] for name in ("real", "real, pruned", "real, failed, no value")}) == 3


def test_records_without_a_state_are_finished_and_nothing_is_no_plot() -> None:
    figure = tuning({"none": [{"number": 0, "value": 0.3}]})
    assert figure is not None
    assert [trace.name for trace in figure.data] == ["none", "none, best so far"]
    assert tuning({"none": [{"number": 0, "state": "FAIL", "value": None}]}) is None
    assert tuning({}) is None


def test_an_arm_without_any_finished_trial_still_shows_them() -> None:
    figure = tuning({"real": [{"number": 0, "value": 0.3}], "none": [{"number": 0, "state": "FAIL", "value": None}]})
    assert figure is not None
    assert "none, failed, no value" in [trace.name for trace in figure.data]
