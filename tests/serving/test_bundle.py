"""A bundle carries everything; what is missing or changed is listed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from lorefuse.config import DeepFMConfig
from lorefuse.core.errors import ArtifactError, LeakError, UsageError
from lorefuse.export.bundle import Bundle
from lorefuse.export.model_repository import ModelRepository
from lorefuse.models.build import build_ranker, load_ranker
from lorefuse.training_set.spec import FeatureSpec
from tests.helpers.synthetic_bundle import NUM_ITEMS, World, make_bundle


@pytest.fixture
def copy(bundles: tuple[Path, Path], tmp_path: Path) -> Path:
    return shutil.copytree(bundles[0], tmp_path / "bundle")


def test_a_bundle_is_whole(bundles: tuple[Path, Path], world: World) -> None:
    bundle = Bundle.load(bundles[0])
    assert bundle.spec() == world.training_set.spec
    assert bundle.config() == world.config
    assert bundle.data_cutoff == world.training_set.spec.data_cutoff
    ids, titles = bundle.catalogue()
    assert ids == world.dataset.items()["item_id"].tolist()
    assert titles[0].startswith("Film Nº")
    assert {len(table) for table in bundle.arrays("item_tables.safetensors").values()} == {NUM_ITEMS}
    assert load_ranker(bundle.path).spec == bundle.spec()
    assert bundle.digest != Bundle.load(bundles[1]).digest


def test_somebody_without_history_is_the_snapshot_at_the_epoch(bundles: tuple[Path, Path], world: World) -> None:
    facts = Bundle.load(bundles[0]).read_json("serving.json")
    first_rows = np.flatnonzero(world.training_set.user_numeric[:, 0] == 0)  # log1p(0): a user's first rows
    expected = world.training_set.user_numeric[first_rows[0]]
    assert np.array(list(facts["user_without_history"].values()), np.float32).tolist() == expected.tolist()


def test_everything_wrong_is_listed_at_once(copy: Path) -> None:
    (copy / "vocabularies.json").unlink()
    (copy / "views.json").unlink()
    with (copy / "ranker.onnx").open("ab") as stream:
        stream.write(b"x")
    (copy / "model.py").write_text("import os")
    (copy / ".DS_Store").touch()  # nobody reads it
    expected = r"missing: views.json, vocabularies.json; changed: ranker.onnx; not of it: model.py$"
    with pytest.raises(ArtifactError, match=f"(?m){expected}"):
        Bundle.load(copy)


@pytest.mark.parametrize("text", [None, "", "{}", "[]", '{"sha256": 1}'])
def test_a_folder_without_its_manifest_is_no_bundle(copy: Path, text: str | None) -> None:
    (copy / "bundle.json").unlink()
    if text is not None:
        (copy / "bundle.json").write_text(text)
    with pytest.raises(ArtifactError, match="not a model bundle"):
        Bundle.load(copy)


@pytest.mark.parametrize("name", ["../items.json", "/etc/hostname", "folder/file", ".."])
def test_a_name_that_leads_out_of_the_folder_is_refused(copy: Path, name: str) -> None:
    content = json.loads((copy / "bundle.json").read_text())
    content["sha256"][name] = "0" * 64
    (copy / "bundle.json").write_text(json.dumps(content))
    with pytest.raises(ArtifactError, match="not its own"):
        Bundle.load(copy)


def test_a_link_in_the_place_of_a_file_is_refused(copy: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    (copy / "ranker.onnx").rename(elsewhere)
    (copy / "ranker.onnx").symlink_to(elsewhere)
    with pytest.raises(ArtifactError, match=r"not its own(.|\n)*ranker.onnx"):
        Bundle.load(copy)


def test_the_config_must_be_the_rankers_own(world: World, tmp_path: Path) -> None:
    other = build_ranker(DeepFMConfig(embedding_dim=6), world.training_set.spec)
    with pytest.raises(ArtifactError, match="no complete ranker"):
        make_bundle(world, other, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_knowledge_of_later_data_is_a_leak(world: World, rankers: tuple, tmp_path: Path) -> None:
    vectors_path = world.path / "vectors" / "item_vectors.json"
    text = vectors_path.read_text()
    try:
        vectors_path.write_text(text.replace("2001-", "2002-"))
        with pytest.raises(LeakError, match="later data"):
            make_bundle(world, rankers[0], tmp_path / "bundle")
    finally:
        vectors_path.write_text(text)


def test_a_repository_is_written_whole_and_once(bundles: tuple[Path, Path], world: World, tmp_path: Path) -> None:
    repository = ModelRepository(tmp_path / "repository")
    assert not repository.add(bundles[0], world.store_path, 3)["reused"]
    assert repository.add(bundles[0], world.store_path, 3)["reused"]
    assert not repository.add(bundles[1], world.store_path, 3)["reused"]
    assert repository.active is None
    facts = json.loads((repository.path / "direct" / "3" / "features.json").read_text())
    assert facts["dynamic_batching"], "of one graph"
    files = sorted(str(path.relative_to(repository.path)) for path in repository.path.rglob("*") if path.is_file())
    assert files == [
        "answer/3/__pycache__",
        "answer/3/answer.json",
        "answer/3/answers.py",
        "answer/3/byte_texts.py",
        "answer/3/model.py",
        "catalogue_ranker/3/model.onnx",
        "catalogue_ranker/3/reference.safetensors",
        "direct/3/__pycache__",
        "direct/3/answer.json",
        "direct/3/answers.py",
        "direct/3/byte_texts.py",
        "direct/3/catalogue.py",
        "direct/3/context_reducer.py",
        "direct/3/features.json",
        "direct/3/graph.py",
        "direct/3/model.onnx",
        "direct/3/model.py",
        "direct/3/names.py",
        "direct/3/online_store.db",
        "direct/3/online_store.py",
        "direct/3/recommend_request.py",
        "direct/3/redis_store.py",
        "direct/3/stored_values.py",
        "direct/3/users.py",
        "features/3/__pycache__",
        "features/3/catalogue.py",
        "features/3/context_reducer.py",
        "features/3/features.json",
        "features/3/model.py",
        "features/3/names.py",
        "features/3/online_store.db",
        "features/3/online_store.py",
        "features/3/recommend_request.py",
        "features/3/redis_store.py",
        "features/3/stored_values.py",
        "features/3/users.py",
        "ranker/3/feature_spec.json",
        "ranker/3/model.onnx",
        "ranker/3/reference.safetensors",
    ]


def test_nothing_is_written_from_what_is_not_whole(
    copy: Path, bundles: tuple[Path, Path], world: World, tmp_path: Path
) -> None:
    repository = ModelRepository(tmp_path / "repository")
    (copy / "ranker.onnx").unlink()
    with pytest.raises(ArtifactError, match=r"ranker\.onnx"):
        repository.add(copy, world.store_path, 1)
    with pytest.raises(ArtifactError, match="no online store"):
        repository.add(bundles[0], tmp_path, 1)
    with pytest.raises(UsageError, match="positive"):
        repository.add(bundles[0], world.store_path, 0)
    assert not repository.path.exists()


def test_spec_and_weights_are_of_one_piece(bundles: tuple[Path, Path]) -> None:
    assert FeatureSpec.load(bundles[0]) == load_ranker(bundles[0]).spec
