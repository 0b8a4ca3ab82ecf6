"""Whether the order of likes pays is measured on users that the blend was not learned from, without test rows."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from lorefuse.auto import sequence as room
from lorefuse.auto.sequence import SequenceTask, halves, try_sequence
from lorefuse.core.schema import SPLIT_CODES, Split
from lorefuse.lists.moments import moments_of
from lorefuse.training_set.arrays import TrainingSet
from tests.helpers.taste_rows import NUM_USERS, make_taste_set, small_lists_config, write_embeddings
from tests.unit.lists.test_encoders import SASREC


def _without_test(training_set: TrainingSet) -> TrainingSet:
    code = training_set.split_code.copy()
    code[code == SPLIT_CODES[Split.TEST]] = SPLIT_CODES[Split.EXCLUDED]
    return dataclasses.replace(training_set, split_code=code)


def _task(tmp_path: Path, **candidates: object) -> SequenceTask:
    training_set = _without_test(make_taste_set())
    (tmp_path / "rows").mkdir()
    training_set.save(tmp_path / "rows")
    write_embeddings(training_set, tmp_path / "texts")
    config = small_lists_config(**candidates)
    config = config.model_copy(update={"retrieval": config.retrieval.model_copy(update={"sasrec": SASREC})})
    return SequenceTask(str(tmp_path / "rows"), str(tmp_path / "texts"), config, seed=0)


def test_both_blends_are_judged_and_the_interval_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "MIN_USERS", 20)
    result = try_sequence(_task(tmp_path))
    assert set(result["ndcg"]) == {"with", "without"}
    gain = result["gain"]
    assert gain["low"] <= gain["mean"] <= gain["high"]
    assert gain["mean"] == pytest.approx(result["ndcg"]["with"] - result["ndcg"]["without"])
    assert result["taken"] == (gain["low"] > 0)
    assert f"{NUM_USERS // 2} validation users" in result["why"]


def test_too_few_users_or_no_list_are_said(tmp_path: Path) -> None:
    task = _task(tmp_path, mode="none")
    assert try_sequence(task) == {"taken": False, "why": "no list of candidates is learned here"}
    blend = task.config.model_copy(update={"candidates": task.config.candidates.model_copy(update={"mode": "auto"})})
    assert "fewer than 200" in try_sequence(dataclasses.replace(task, config=blend))["why"]


def test_halves_share_nobody() -> None:
    users = moments_of(_without_test(make_taste_set()), Split.VALIDATION, 10)
    one, other = halves(users, seed=0)
    assert sorted([*one.users, *other.users]) == sorted(users.users)
    assert not np.isin(one.users, other.users).any()
