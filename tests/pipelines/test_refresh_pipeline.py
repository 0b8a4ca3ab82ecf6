"""The refresh pipeline through kfp's local runner: a champion that holds is kept, another shop trains it again."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from lorefuse.config import load_config
from lorefuse.data.dataset import Dataset
from tests.helpers.new_rows import write_another_shop, write_more_of_the_same, write_new_items
from tests.helpers.shop import NUM_INTERACTIONS, NUM_ITEMS, SOUND_FILE, lorefuse, pipeline, write_preset

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("shared-shop")]


class Refreshed:
    """A shop with a champion, and what `lorefuse refresh` says of new files."""

    def __init__(self, path: Path) -> None:
        self.data_path, self.home_path = path / "data", path / "home"
        own = {"sound": {"path": SOUND_FILE, "reduce_dim": 3}}
        self.config_path = write_preset(
            self.data_path, evaluation__global_cut=False, knowledge__item_vectors=own, model__fusion_dims={"sound": 2}
        )
        trained = pipeline(self.home_path, self.config_path, "--no-deploy")
        assert trained.returncode == 0, trained.stdout + trained.stderr

    def refresh(self, new_path: Path, *more: str) -> subprocess.CompletedProcess[str]:
        flags = ("--config", str(self.config_path), "--new", str(new_path), "--no-deploy", *more)
        return lorefuse(self.home_path, "refresh", *flags)

    def judged(self) -> dict[str, Any]:
        """Content of the newest judgement."""
        paths = self.home_path.glob("cache/steps/judge_refresh/[!.]*/refresh.json")
        content: dict[str, Any] = json.loads(max(paths, key=lambda path: path.stat().st_mtime).read_text("utf-8"))
        return content


@pytest.fixture(scope="module")
def shop(shared_shop: Path) -> Refreshed:
    return Refreshed(shared_shop)


def _finished(run: subprocess.CompletedProcess[str]) -> None:
    assert run.returncode == 0, f"{run.stdout}\n{run.stderr}"
    assert "Traceback" not in run.stdout + run.stderr


def test_more_of_the_same_keeps_the_champion(shop: Refreshed) -> None:
    new_path = write_more_of_the_same(shop.data_path, shop.data_path / "more.csv")
    items_path = write_new_items(shop.data_path, shop.data_path / "new_items.csv")
    run = shop.refresh(new_path, "--new-items", str(items_path))
    _finished(run)
    words = dict(re.findall(r"^  (\w+) +(built|reused)", run.stdout, re.MULTILINE))
    assert {words[step] for step in ("ingest", "split", "item_vectors", "features", "materialize")} == {"reused"}
    assert {words[step] for step in ("append_rows", "update_features", "update_store", "judge_refresh")} == {"built"}
    assert "tune" not in words
    assert "num_new 300, num_duplicates 10" in run.stdout
    assert re.search(rf"embed +built .* num_cached {NUM_ITEMS}, num_encoded 2,", run.stdout), run.stdout
    content = shop.judged()
    assert not content["retrain"]
    assert content["new"]["num_new_items"] == 2
    assert content["metrics"]["fresh"]["auc"]["value"] > 0.55
    sources = shop.home_path.glob("cache/steps/update_features/[!.]*/sources/item_sound.parquet")
    sound = pd.read_parquet(next(sources)).set_index("item_id")["sound_vector"]
    assert [np.abs(sound[name]).sum() > 0 for name in ("n0", "n1")] == [True, True], "new items have their own vectors"
    assert "Keep the model" in (shop.home_path / "refresh.html").read_text("utf-8")


def test_test_rows_score_as_they_did_in_the_evaluation(shop: Refreshed) -> None:
    """The champion's features, made anew for a grown dataset, are those it was judged with."""
    paths = shop.home_path.glob("cache/steps/evaluate/[!.]*/metrics.json")
    metrics = json.loads(max(paths, key=lambda path: path.stat().st_mtime).read_text("utf-8"))
    recorded = metrics["splits"]["per_user_time"]["arms"]["real"]["test"]["auc_all"]["mean"]
    assert shop.judged()["metrics"]["test"]["auc"]["value"] == pytest.approx(recorded, abs=1e-6)


def test_the_same_file_again_is_read_back(shop: Refreshed) -> None:
    run = shop.refresh(shop.data_path / "more.csv", "--new-items", str(shop.data_path / "new_items.csv"))
    _finished(run)
    assert set(re.findall(r"^  \w+ +(built|reused)", run.stdout, re.MULTILINE)) == {"reused"}


def test_another_shop_trains_again_on_all_rows(shop: Refreshed) -> None:
    new_path = write_another_shop(shop.data_path, shop.data_path / "another.csv")
    run = shop.refresh(new_path)
    _finished(run)
    content = shop.judged()
    assert content["retrain"]
    assert any("users that the model does not know" in reason for reason in content["reasons"])
    assert re.search(r"^  register +built", run.stdout, re.MULTILINE), run.stdout
    (preset_path,) = shop.home_path.glob("refresh/shop/*/preset.yaml")
    grown = load_config(preset_path)
    num_new = content["new"]["num_new"]
    assert len(Dataset.open(preset_path.parent / "dataset").interactions()) == NUM_INTERACTIONS + num_new
    assert grown.model_copy(update={"data": None}) == load_config(shop.config_path).model_copy(update={"data": None})
    said = lorefuse(shop.home_path, "status").stdout
    assert "lorefuse-ranker@challenger: version 2" in said


def test_without_new_rows_nothing_starts(shop: Refreshed, tmp_path: Path) -> None:
    run = shop.refresh(tmp_path)
    assert run.returncode == 2
    assert "There are no new rows" in run.stderr
    assert "kfp" not in run.stdout


def test_a_champion_of_other_data_is_refused(shop: Refreshed) -> None:
    other_path = shop.data_path.parent / "other"
    other_path.mkdir()
    for file in shop.data_path.glob("*.csv"):
        other_path.joinpath(file.name).write_bytes(file.read_bytes())
    with (other_path / "interactions.csv").open("a", encoding="utf-8") as stream:
        stream.write("u1,i1,5,1700000000\n")
    flags = ("--config", str(write_preset(other_path)), "--new", str(shop.data_path / "more.csv"), "--no-deploy")
    run = lorefuse(shop.home_path, "refresh", *flags)
    assert run.returncode == 2
    assert "was trained on another dataset" in run.stderr


def test_pipeline_compiles(tmp_path: Path) -> None:
    from kfp import compiler

    from pipelines.refresh import refresh

    compiler.Compiler().compile(refresh, str(tmp_path / "refresh.yaml"))
    spec, *_ = yaml.safe_load_all((tmp_path / "refresh.yaml").read_text("utf-8"))
    inputs = spec["root"]["inputDefinitions"]["parameters"]
    assert {name for name, entry in inputs.items() if not entry.get("isOptional")} == {"config", "new_path"}
    tasks = spec["root"]["dag"]["tasks"]
    assert {"append-rows", "champion", "judge-refresh", "update-store", "condition-branches-1"} <= set(tasks)
