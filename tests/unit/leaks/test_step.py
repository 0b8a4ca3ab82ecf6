"""The step of the leak tests: what registers a version, and `lorefuse leaks`, read the same measurement."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lorefuse import steps
from lorefuse.config import LeaksConfig
from lorefuse.core.atomic import write_json
from lorefuse.leaks import run as leaks_run
from lorefuse.models.build import build_ranker, save_ranker
from lorefuse.training import pool
from tests.helpers.training_rows import make_training_set, small_config


def test_a_measurement_is_taken_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOREFUSE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(leaks_run, "run_parallel", lambda function, tasks, _: pool.run_parallel(function, tasks, 1))
    whole, config = make_training_set(), small_config(leaks=LeaksConfig(num_models=4, num_bootstraps=10))
    for name in ("rows", "evaluation/ranker"):
        (tmp_path / name).mkdir(parents=True)
    whole.save(tmp_path / "rows")
    ranker = build_ranker(config.model, whole.spec)
    ranker.prepare(whole)
    save_ranker(ranker, config.model, tmp_path / "evaluation" / "ranker")
    privacy = {"epsilon": 2.9, "delta": 1e-5}
    write_json(tmp_path / "evaluation" / "metrics.json", {"best_params": {"real": {}}, "privacy": privacy})
    content, folders = steps.dump_config(config), (tmp_path / "rows", tmp_path / "evaluation")
    first = steps.membership(content, *folders)
    found = json.loads((first.path / "membership.json").read_text())
    assert (found["num_models"], found["num_rows"], found["privacy"]) == (4, 210, privacy)
    assert 0 < found["halves"]["lira"]["auc"]["mean"] < 1
    again = steps.membership({**content, "registry": {"max_membership_auc": 0.6}}, *folders)
    assert (again.reused, again.digest) == (True, first.digest), "a bound changes no measurement"
    assert not steps.membership({**content, "leaks": {**content["leaks"], "seed": 1}}, *folders).reused
