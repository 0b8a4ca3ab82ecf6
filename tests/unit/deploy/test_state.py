from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from lorefuse.deploy.state import ServerState, Stage, Verdict, load_state, now, save_state


def test_a_state_survives_the_disk(tmp_path: Path) -> None:
    state = ServerState("one", desired=3, actual=2, previous=1, candidate=3, share=0.25, baseline={"a": 1.5})
    state.enter(Stage.CANARY, "the trial began")
    state.verdicts["4"] = Verdict(Stage.REJECTED, "too slow", "abc", "#0", now())
    save_state(tmp_path / "state.json", state)
    assert load_state(tmp_path / "state.json", "one") == state
    assert state.elapsed_s() < 5


@pytest.mark.parametrize("text", ["", "{", "[]", '{"verdicts": {"1": {"other": 1}}}', "\x00"])
def test_a_damaged_state_is_an_empty_one(tmp_path: Path, text: str) -> None:
    (tmp_path / "state.json").write_text(text)
    assert load_state(tmp_path / "state.json", "one") == ServerState("one")


def test_a_state_of_a_newer_program_keeps_what_is_known(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text('{"actual": 7, "from_the_future": true}')
    assert load_state(tmp_path / "state.json", "one").actual == 7


def test_a_step_of_the_clock_neither_ends_nor_prolongs_a_trial() -> None:
    state = ServerState("local")
    state.enter(Stage.CANARY, "begun")
    for shift_h in (-1, 1):
        state.since = (datetime.now(UTC) + timedelta(hours=shift_h)).isoformat()
        assert 0 <= state.elapsed_s() < 60
    state.boot_id = "another start of the machine"
    state.since = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    assert state.elapsed_s() > 3500
