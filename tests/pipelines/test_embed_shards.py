"""Texts encoded in shards: the bytes of one run, through kfp's local runner; a shard that was lost runs again alone."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml

from lorefuse import steps
from lorefuse.config import load_config
from lorefuse.embedding.embed import ARRAYS_FILE
from lorefuse.steps import shards as steps_shards
from tests.helpers.encoders import save_encoder
from tests.helpers.shop import PROJECT_PATH, lorefuse

pytestmark = pytest.mark.slow
NUM_ITEMS, FIRST = 2 * 4096 + 200, 4
"""Three chunks, and a first word with which each of three shards gets one; the encoder is tiny and random."""


@pytest.fixture(scope="module")
def preset_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("texts")
    save_encoder(path / "encoder", "bert")
    words = [f"w{n % 50} w{n // 50 % 50} w{n // 2500}" for n in range(FIRST, FIRST + NUM_ITEMS)]
    pd.DataFrame({"item_id": [f"i{n}" for n in range(NUM_ITEMS)], "title": words}).to_csv(path / "items.csv")
    rows = [(f"u{n % 5}", f"i{n}", 1_600_000_000 + n, 1 + 4 * (n % 2)) for n in range(40)]
    frame = pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp", "rating"])
    frame.to_csv(path / "interactions.csv", index=False)
    source = {"kind": "files", **{f"{n}_path": str(path / f"{n}.csv") for n in ("interactions", "items")}}
    embedding = {"encoder": str(path / "encoder"), "num_shards": 3, "num_threads": 1, "reduce_dim": 4}
    content = {"name": "texts", "data": {"source": source}, "embedding": embedding}
    (path / "texts.yaml").write_text(yaml.safe_dump(content), "utf-8")
    return path / "texts.yaml"


def _config(preset_path: Path) -> dict[str, object]:
    return steps.dump_config(load_config(preset_path))


def test_shards_give_the_bytes_of_one_run_and_a_lost_one_runs_alone(
    preset_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = _config(preset_path)
    monkeypatch.setenv("LOREFUSE_HOME", str(tmp_path / "one"))
    one = steps.embed(config, steps.ingest(config).path).path / ARRAYS_FILE

    home_path = tmp_path / "three"
    monkeypatch.setenv("LOREFUSE_HOME", str(home_path))
    dataset = steps.ingest(config).path
    code = (
        "import sys, json; from lorefuse.steps import shards as s; from lorefuse.steps import dump_config; "
        "from lorefuse.config import load_config; from pathlib import Path; "
        "config = dump_config(load_config(Path(sys.argv[1]))); "
        "[s.embed_shard(config, {'shard': n}, sys.argv[2]) for n in map(int, sys.argv[3])]"
    )
    # The first shard finishes, the second is killed while it is at work, the third never starts.
    steps_shards.embed_shard(config, {"shard": 0}, dataset)
    env = {**os.environ, "PYTHONPATH": str(PROJECT_PATH), "OMP_NUM_THREADS": "1"}
    doomed = subprocess.Popen([sys.executable, "-c", code, str(preset_path), str(dataset), "1"], env=env)
    drafts = home_path / "cache" / "steps" / "embed_shard"
    deadline = time.monotonic() + 60
    while not list(drafts.glob(".*.partial")) and doomed.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.002)
    doomed.send_signal(signal.SIGKILL)
    assert doomed.wait() == -signal.SIGKILL
    run = lorefuse(home_path, "embed", "--config", str(preset_path))
    assert run.returncode == 0, run.stdout + run.stderr
    assert sorted(re.findall(r"^  embed_shard +(\w+)", run.stdout, re.MULTILINE)) == ["built", "built", "reused"]
    embedded = re.search(r"^  embed +built .*num_cached ([\d,]+), num_encoded (\d+)", run.stdout, re.MULTILINE)
    assert embedded is not None
    assert (embedded[1], embedded[2]) == (f"{NUM_ITEMS:,}", "0")
    (three,) = home_path.glob(f"cache/steps/embed/[!.]*/{ARRAYS_FILE}")
    assert three.read_bytes() == one.read_bytes()


def test_every_chunk_has_one_shard_and_parts_fill_another_machines_cache(
    preset_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = _config(preset_path)
    monkeypatch.setenv("LOREFUSE_HOME", str(tmp_path / "workers"))
    dataset = steps.ingest(config).path
    parts = [steps_shards.embed_shard(config, shard, dataset) for shard in steps_shards.embed_ranges(config)]
    assert sum(part.summary["num_texts"] for part in parts) == NUM_ITEMS
    assert all(part.summary["num_texts"] > 0 for part in parts)
    monkeypatch.setenv("LOREFUSE_HOME", str(tmp_path / "elsewhere"))
    joined = steps_shards.join_shards(config, dataset, [part.path for part in parts])
    assert joined.summary["num_encoded"] == 0


def test_pipeline_compiles(tmp_path: Path) -> None:
    from kfp import compiler

    from pipelines.embed_shards import embed_shards

    compiler.Compiler().compile(embed_shards, str(tmp_path / "embed.yaml"))
    spec, *_ = yaml.safe_load_all((tmp_path / "embed.yaml").read_text("utf-8"))
    loops = [name for name, task in spec["root"]["dag"]["tasks"].items() if "parameterIterator" in task]
    assert len(loops) == 1
