"""The user's mistakes at `lorefuse run`: exit code 2, one clear message, no traceback, nothing half-written."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.helpers.shop import lorefuse, pipeline, write_preset, write_shop

Spoil = Callable[[Path], Any]


def _drop_column(folder: Path) -> None:
    path = folder / "items.csv"
    pd.read_csv(path).drop(columns="description").to_csv(path, index=False)


def _values_are_words(folder: Path) -> None:
    path = folder / "interactions.csv"
    table = pd.read_csv(path)
    table["rating"] = "splendid"
    table.to_csv(path, index=False)


def _as_parquet(folder: Path, **columns: Any) -> None:
    """Bring the interactions as Parquet, some columns as Arrow has them: null in the first row."""
    table = pd.read_csv(folder / "interactions.csv")
    for name, make in columns.items():
        table[name] = make(table[name])
    table.to_parquet(folder / "interactions.parquet")
    write_preset(folder, data__source__interactions_path="interactions.parquet")


def _times_are_positions(folder: Path) -> None:
    path = folder / "interactions.csv"
    table = pd.read_csv(path)
    table["timestamp"] = range(1, len(table) + 1)
    table.to_csv(path, index=False)


MISTAKES: dict[str, tuple[Spoil, tuple[str, ...]]] = {
    "unknown key": (
        lambda folder: write_preset(folder, training__learnig_rate=0.1),
        ("training.learnig_rate", "unknown key", "fix:"),
    ),
    "value out of range": (
        lambda folder: write_preset(folder, training__learning_rate=-1),
        ("training.learning_rate", "expected:", "greater than 0", "got: -1"),
    ),
    "unknown arm": (
        lambda folder: write_preset(folder, evaluation__arms=["real", "nothing"]),
        ("evaluation.arms.1", "expected:", "got: 'nothing'"),
    ),
    "parts leave no test": (
        lambda folder: write_preset(folder, split={"train_share": 0.9, "validation_share": 0.1}),
        ("split", "expected:", "leave a test part", "got:"),
    ),
    "not YAML": (
        lambda folder: (folder / "shop.yaml").write_text("name: [shop\n  data: }", "utf-8"),
        ("shop.yaml could not be read", "expected: a YAML file", "got:"),
    ),
    "not a mapping": (
        lambda folder: (folder / "shop.yaml").write_text("- shop\n- data\n", "utf-8"),
        ("shop.yaml", "expected: a mapping", "got: list"),
    ),
    "no preset": (
        lambda folder: (folder / "shop.yaml").unlink(),
        ("no configuration", "shop.yaml", "fix:"),
    ),
    "missing column": (_drop_column, ("description", "items.csv", "expected:", "got:", "fix:")),
    "missing file": (lambda folder: (folder / "items.csv").unlink(), ("items.csv", "fix:")),
    "empty file": (lambda folder: (folder / "interactions.csv").write_text(""), ("interactions.csv", "empty", "fix:")),
    "header alone": (
        lambda folder: (folder / "interactions.csv").write_text("user_id,item_id,rating,timestamp\n"),
        ("interactions.csv", "expected:", "got:", "fix:"),
    ),
    "values are words": (_values_are_words, ("interactions.csv", "expected:", "got:", "fix:", "quarantine")),
    "times are positions": (
        _times_are_positions,
        ("timestamp cannot be read", "2020-10-28T12:46:54Z", "timestamp_unit"),
    ),
    "ids have been rounded": (
        lambda folder: _as_parquet(folder, user_id=lambda ids: [1234567890123456789.0 + n for n in range(len(ids))]),
        ("user_id", "rounded", "Int64"),
    ),
    "ids are structures": (
        lambda folder: _as_parquet(folder, item_id=lambda ids: [{"id": name} for name in ids]),
        ("'item_id' holds structures", "expected:", "fix:"),
    ),
    "a model's name with a slash": (
        lambda folder: write_preset(folder, registry__model_name="team/ranker"),
        ("registry.model_name", "expected:", "got: 'team/ranker'"),
    ),
    "a metric that is none": (
        lambda folder: write_preset(folder, registry__gate_metric="auc_wram"),
        ("registry.gate_metric", "expected:", "got: 'auc_wram'"),
    ),
    "one label": (
        lambda folder: write_preset(folder, data__label={"kind": "binary", "threshold": 0.5}),
        ("same label", "expected:", "got:", "fix:", "data.label.threshold"),
    ),
}


def _assert_clear(done: subprocess.CompletedProcess[str], home_path: Path, words: tuple[str, ...], code: int) -> None:
    said = done.stdout + done.stderr
    assert done.returncode == code, said
    assert "Traceback" not in said
    assert [word for word in words if word not in done.stderr] == [], done.stderr
    assert done.stderr.count("expected:") <= 1, "one message"
    assert list(home_path.glob("cache/steps/*/*")) == [], "a failed step left a folder"


@pytest.mark.parametrize("mistake", MISTAKES)
def test_users_mistake(mistake: str, tmp_path: Path) -> None:
    spoil, words = MISTAKES[mistake]
    write_shop(tmp_path / "shop")
    spoil(tmp_path / "shop")
    home_path = tmp_path / "home"
    done = lorefuse(home_path, "run", "--config", str(tmp_path / "shop" / "shop.yaml"), "--no-deploy")
    _assert_clear(done, home_path, words, code=2)


def test_quarantine_names_the_bad_rows(tmp_path: Path) -> None:
    config_path = write_shop(tmp_path / "shop")
    _values_are_words(tmp_path / "shop")
    lorefuse(tmp_path / "home", "run", "--config", str(config_path), "--no-deploy")
    lines = (tmp_path / "home" / "quarantine.jsonl").read_text("utf-8").splitlines()
    assert len(lines) > 1
    assert "splendid" in lines[0]


def test_no_arguments_is_a_usage_error(tmp_path: Path) -> None:
    done = lorefuse(tmp_path, "run")
    assert done.returncode == 2
    assert "--config" in done.stderr
    assert "Traceback" not in done.stderr


def test_unreachable_mlflow_is_not_the_users_mistake(tmp_path: Path) -> None:
    done = lorefuse(tmp_path, "status", MLFLOW_TRACKING_URI="http://127.0.0.1:1")
    assert done.returncode == 1
    assert "does not answer" in done.stderr
    assert "fix:" in done.stderr
    assert "Traceback" not in done.stderr


def test_unreachable_mlflow_ends_a_run_before_any_work(tmp_path: Path) -> None:
    config_path = write_shop(tmp_path / "shop")
    done = pipeline(tmp_path / "home", config_path, "--no-deploy", MLFLOW_TRACKING_URI="http://127.0.0.1:1")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "The MLflow server http://127.0.0.1:1 does not answer." in done.stderr
    assert "fix:" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert not (tmp_path / "home" / "cache" / "steps").exists()
