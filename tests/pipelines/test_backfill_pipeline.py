"""The backfill pipeline through kfp's local runner: ranges of days, the same again when it is run again."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import pytest
import yaml

from lorefuse.data.dataset import Dataset
from tests.helpers.shop import lorefuse, write_preset

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("shared-shop")]

FIRST, LAST = "2020-09-20", "2020-10-10"
RANGES = ["2020-09-20_2020-09-29.parquet", "2020-09-30_2020-10-09.parquet", "2020-10-10_2020-10-10.parquet"]


def test_past_days_are_computed_range_by_range_and_read_back_the_next_time(shared_shop: Path) -> None:
    config_path, home_path = write_preset(shared_shop / "data"), shared_shop / "home"
    flags = ("--config", str(config_path), "--first", FIRST, "--last", LAST, "--days", "10")
    run = lorefuse(home_path, "backfill", *flags)
    assert run.returncode == 0, run.stdout + run.stderr
    kept_path = home_path / "backfill" / "shop"
    assert sorted(path.name for path in kept_path.glob("*.parquet")) == RANGES
    frames = [pd.read_parquet(kept_path / name) for name in RANGES]
    datasets = home_path.glob("cache/steps/ingest/[!.]*")
    events = Dataset.open(max(datasets, key=lambda path: path.stat().st_mtime)).interactions()
    day = events["event_timestamp"].dt.strftime("%Y-%m-%d")
    inside = events[(day >= FIRST) & (day <= LAST)]
    assert pd.concat(frames)["row_id"].tolist() == inside["row_id"].tolist()
    assert {"user_log_count", "item_prior", "text_vector", "label"} <= set(frames[0].columns)
    manifest = json.loads((kept_path / "manifest.json").read_text("utf-8"))
    assert sum(entry["num_rows"] for entry in manifest.values()) == len(inside)

    again = lorefuse(home_path, "backfill", *flags)
    assert again.returncode == 0, again.stdout + again.stderr
    assert re.findall(r"^  backfill_days +(\w+)", again.stdout, re.MULTILINE) == ["reused"] * len(RANGES)
    assert json.loads((kept_path / "manifest.json").read_text("utf-8")) == manifest


def test_days_that_make_no_sense_start_nothing(shared_shop: Path) -> None:
    config_path = write_preset(shared_shop / "data")
    run = lorefuse(shared_shop / "home", "backfill", "--config", str(config_path), "--first", LAST, "--last", FIRST)
    assert run.returncode == 2
    assert "There are no days to backfill" in run.stderr
    assert "kfp" not in run.stdout


def test_pipeline_compiles(tmp_path: Path) -> None:
    from kfp import compiler

    from pipelines.backfill import backfill

    compiler.Compiler().compile(backfill, str(tmp_path / "backfill.yaml"))
    spec, *_ = yaml.safe_load_all((tmp_path / "backfill.yaml").read_text("utf-8"))
    loops = [name for name, task in spec["root"]["dag"]["tasks"].items() if "parameterIterator" in task]
    assert len(loops) == 1
