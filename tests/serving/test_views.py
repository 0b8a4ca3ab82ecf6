"""Every recommender of the candidate stage on a real Triton, one after another: asked alike, and asked badly."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save_file

from lorefuse.client import Client
from lorefuse.config import PipelineConfig
from lorefuse.config.candidates import CandidatesConfig, NamedView
from lorefuse.core.atomic import atomic_folder, sha256_file, write_json
from lorefuse.core.errors import ArtifactError, UsageError
from lorefuse.deploy.control import Control
from lorefuse.deploy.deploy import deploy
from lorefuse.deploy.supervisor import Supervisor
from lorefuse.export.bundle import Bundle
from lorefuse.export.stages import OnnxStages, export_encoders, export_stages
from lorefuse.export.wire import text_array
from lorefuse.export.write_bundle import write_bundle
from lorefuse.feature_store.store import apply_and_materialize
from lorefuse.lists import run as lists_run
from lorefuse.lists.run import run_lists
from lorefuse.lists.stage_files import CANDIDATES_FILES, LIST_FILES
from lorefuse.models.build import save_ranker
from lorefuse.models.ranker import Ranker
from lorefuse.training import pool
from tests.helpers.synthetic_bundle import FULL_DIM, NUM_ITEMS, World

# What is asked is no recommender of a past: it has tests of its own (test_asked.py, test_embed.py).
WEIGHTS: dict[str, dict[str, float]] = {name: {name: 1.0} for name in get_args(NamedView) if name != "asked"}
WEIGHTS["hybrid"] = {"ease": 1.0, "user_knn": 0.5, "content": 2.0}
VERSIONS = {name: number for number, name in enumerate(WEIGHTS, 1)}
SMALL = {"embedding_dim": 8, "text_dim": 3, "max_epochs": 2, "num_threads": 1}


def config_of(world: World, name: str) -> PipelineConfig:
    """One view, or the hybrid, in its own order."""
    candidates = CandidatesConfig.model_validate(
        {
            "views": list(WEIGHTS[name]),
            "weights": WEIGHTS[name],
            "ranker": "identity",
            "num_candidates": 15,
            "num_neighbours": 20,
            "shrinkage": 1.0,
        }
    )
    retrieval = world.config.retrieval
    small = {
        view: getattr(retrieval, view).model_copy(update=SMALL if view != "light_gcn" else {**SMALL, "text_dim": 0})
        for view in ("two_tower", "light_gcn", "sasrec")
    }
    small["sasrec"] = small["sasrec"].model_copy(update={"history_length": 5})
    return world.config.model_copy(update={"candidates": candidates, "retrieval": retrieval.model_copy(update=small)})


class Maker:
    """Makes the bundle of a view as the pipeline does: lists judged, stages exported and held to them.

    All but the stages is the first one's: exporting the ranker's graphs ten times would say nothing more.
    """

    def __init__(self, world: World, ranker: Ranker, path: Path) -> None:
        self.world, self.ranker, self.path = world, ranker, path
        for name in ("rows", "ranker", "embeddings"):
            (path / name).mkdir()
        world.training_set.save(path / "rows")
        save_ranker(ranker, world.config.model, path / "ranker")
        vectors = np.random.default_rng(0).normal(size=(NUM_ITEMS, FULL_DIM)).astype(np.float32)
        save_file({"full": vectors}, str(path / "embeddings" / "item_embeddings.safetensors"))
        self.base: Bundle | None = None

    def stages(self, name: str) -> Path:
        """Fit and judge a view; returns the lists folder."""
        out_path = self.path / f"stages_{name}"
        if not out_path.exists():
            out_path.mkdir()
            self.judge(config_of(self.world, name), out_path)
        return out_path

    def judge(self, config: PipelineConfig, out_path: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(lists_run, "run_parallel", lambda run, tasks, _: pool.run_parallel(run, tasks, 1))
            paths = (self.path / "rows", {"real": self.path / "ranker"}, self.path / "embeddings")
            run_lists(*paths, config, out_path)

    def bundle(self, name: str) -> Bundle:
        """Return the bundle of a view."""
        path = self.path / f"bundle_{name}"
        if not path.exists():
            with atomic_folder(path) as draft_path:
                if self.base is None:
                    self.write(self.stages(name), config_of(self.world, name), draft_path)
                else:
                    self._change(name, self.base, draft_path)
        bundle = Bundle.load(path)
        self.base = self.base or bundle
        return bundle

    def write(self, lists_path: Path, config: PipelineConfig, out_path: Path) -> None:
        folders = (self.world.path / name for name in ("feature_data", "vectors", "embeddings", "dataset"))
        training_set, metrics = self.world.training_set, {"test": {"auc": 0.5}}
        write_bundle(self.ranker, training_set, config, *folders, metrics, out_path, lists_path)

    def _change(self, name: str, base: Bundle, out_path: Path) -> None:
        lists_path, config = self.stages(name), config_of(self.world, name)
        for file in base.sha256:
            shutil.copyfile(base.path / file, out_path / file)
        for file in (*CANDIDATES_FILES, *LIST_FILES):
            shutil.copyfile(lists_path / file, out_path / file)
        write_json(out_path / "config.json", config.model_dump(mode="json"))
        export_encoders(lists_path, config, out_path)
        assert export_stages(self.world.training_set, config, self.ranker, out_path)["same_items"] >= 0.999
        digests = {file.name: sha256_file(file) for file in sorted(out_path.iterdir()) if file.is_file()}
        write_json(out_path / "bundle.json", {**base.read_json("bundle.json"), "sha256": digests})


@pytest.fixture(scope="module")
def maker(world: World, rankers: tuple[Ranker, Ranker], tmp_path_factory: pytest.TempPathFactory) -> Maker:
    return Maker(world, rankers[0], tmp_path_factory.mktemp("views"))


@pytest.fixture(scope="module")
def store_path(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The world's online store with users whose histories are no help."""
    path = tmp_path_factory.mktemp("odd")
    shutil.copytree(world.path / "feature_data", path / "feature_data")
    source = path / "feature_data" / "sources" / "user_history.parquet"
    table = pq.read_table(source)
    in_train = np.bincount(world.training_set.item_row[world.training_set.split_code == 0], minlength=NUM_ITEMS) > 0
    new = [f"i{row}" for row in np.flatnonzero(~in_train)]
    assert len(new) >= 2
    histories = {
        "gone": ["sold out", "i3", "never was"],
        "strange": ["sold out", "never was"],
        "only new": new,
        "had all": [f"i{row}" for row in range(NUM_ITEMS)],
    }
    first = table.slice(0, 1).to_pylist()[0]
    more = [{**first, "user_id": user, "recent_liked": items, "seen": items} for user, items in histories.items()]
    pq.write_table(pa.concat_tables([table, pa.Table.from_pylist(more, table.schema)]), source)
    (path / "store").mkdir()
    apply_and_materialize(path / "feature_data", path / "store")
    return path / "store"


@pytest.fixture(scope="module")
def server(new_supervisor: Callable[[], Supervisor]) -> Supervisor:
    return new_supervisor()


@dataclass(frozen=True)
class Asked:
    """A view that answers."""

    name: str
    client: Client
    bundle: Bundle

    def ids(self, user: str, k: int = 25, **wishes: Any) -> list[str]:
        answer = self.client.recommend(user, k, **wishes)
        assert all(0 <= item.score <= 1 for item in answer.items)
        return [item.item_id for item in answer.items]


@pytest.fixture(scope="module", params=WEIGHTS)
def asked(request: pytest.FixtureRequest, server: Supervisor, maker: Maker, store_path: Path) -> Iterator[Asked]:
    """A view that has taken over from the one before, which stays loaded."""
    bundle, version = maker.bundle(request.param), VERSIONS[request.param]
    report = deploy(bundle.path, store_path, version, supervisor=server)
    assert report["max_score_difference"] <= 1e-5
    with Client(server.url) as client:
        assert client.recommend("u3", 1).model_version == str(version)
        yield Asked(request.param, client, bundle)


def test_a_recommender_is_deployed_and_asked_like_any_other(asked: Asked, server: Supervisor) -> None:
    ids, stages, version = np.array(asked.bundle.catalogue()[0]), OnnxStages(asked.bundle.path), VERSIONS[asked.name]
    for user in ("u0", "u3", "u11", "somebody new", "only new"):
        tensors = Control(server.url).infer("features", {"user_id": text_array(user)}, version)
        rows = stages.answer(tensors)["catalogue_row"][0]
        shown = asked.ids(user, 10)
        assert shown == ids[rows[rows >= 0]][:10].tolist()
        assert not set(shown) & {ids[row] for row in tensors["seen_rows"][0] if row >= 0}
    war = {ids[row] for row in asked.bundle.filters()["genres"]["War"]}
    ranked = asked.ids("u3", exclude_seen=False, filters=["genres=War"])
    assert set(ranked) == war
    some = sorted(war)[:4]
    assert asked.ids("u3", exclude_seen=False, candidates=some) == [item for item in ranked if item in some]


def test_what_cannot_be_answered_well_is_answered_all_the_same(asked: Asked) -> None:
    assert asked.ids("had all") == [], "everything is left out"
    assert asked.ids("u3", filters=["decade=1600s"]) == []
    assert asked.ids("u3", candidates=["sold out"]) == []
    assert asked.ids("u3", candidates=["sold out", "i4"], exclude_seen=False) == ["i4"]
    assert len(asked.ids("only new")) == 25, "nobody else has had what this user likes"
    gone = asked.ids("gone")
    assert len(gone) == 25
    assert "i3" not in gone, "what is left of the past counts"
    strange = asked.ids("strange", exclude_seen=False)
    assert len(strange) == 25
    if asked.name not in ("sasrec", "two_tower"):  # which have learned what somebody unknown likes first
        candidates, ids = OnnxStages(asked.bundle.path).stages.candidates, asked.bundle.catalogue()[0]
        rows = [row for row in map(ids.index, strange) if not candidates.is_new[row]]
        assert (np.diff(candidates.popularity[rows]) <= 0).all(), "who liked only what is gone sees what is popular"


def test_the_version_before_comes_back(maker: Maker, server: Supervisor, store_path: Path) -> None:
    for name in ("user_knn", "sasrec", "user_knn"):
        report = deploy(maker.bundle(name).path, store_path, VERSIONS[name], supervisor=server)
        with Client(server.url) as client:
            assert client.recommend("u3", 5).model_version == str(VERSIONS[name])
    assert report["previous"] == VERSIONS["sasrec"]
    assert report["side_by_side"]


@pytest.mark.parametrize("file", ["candidates.safetensors", "sasrec.safetensors"])
@pytest.mark.parametrize("damage", ["missing", "cut short"])
def test_a_bundle_is_not_made_of_stages_without_their_arrays(
    maker: Maker, file: str, damage: str, tmp_path: Path
) -> None:
    lists_path = shutil.copytree(maker.stages("sasrec"), tmp_path / "stages")
    _harm(lists_path / file, damage)
    config, draft_path = config_of(maker.world, "sasrec"), tmp_path / "bundle"
    with pytest.raises(ArtifactError) as caught, atomic_folder(draft_path) as path:
        maker.write(lists_path, config, path)
    _is_one_clear_error(caught.value, file)
    assert not draft_path.exists()


@pytest.mark.parametrize("damage", ["missing", "cut short"])
def test_a_bundle_without_its_arrays_is_not_deployed(
    maker: Maker, server: Supervisor, store_path: Path, damage: str, tmp_path: Path
) -> None:
    bundle_path = shutil.copytree(maker.bundle("ease").path, tmp_path / "bundle")
    _harm(bundle_path / "candidates.safetensors", damage)
    with pytest.raises(ArtifactError) as caught:
        deploy(bundle_path, store_path, 99, supervisor=server)
    _is_one_clear_error(caught.value, "candidates.safetensors")


def test_weights_of_views_that_the_data_does_not_allow_are_refused(maker: Maker, tmp_path: Path) -> None:
    config = config_of(maker.world, "ease")
    candidates = config.candidates.model_copy(update={"max_ease_items": 0})
    config = config.model_copy(update={"candidates": candidates})
    with pytest.raises(UsageError, match="does not allow") as caught:
        maker.judge(config, tmp_path)
    assert caught.value.exit_code == 2
    assert not list(tmp_path.iterdir())


def _harm(path: Path, damage: str) -> None:
    if damage == "missing":
        path.unlink()
    else:
        os.truncate(path, path.stat().st_size // 2)


def _is_one_clear_error(error: ArtifactError, file: str) -> None:
    assert error.exit_code in (1, 2)
    assert file in str(error)
    assert "fix:" in str(error)
    assert "Traceback" not in str(error)
