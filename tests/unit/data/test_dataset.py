"""A dataset is checked when it is opened."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from lorefuse.core.errors import ArtifactError
from lorefuse.data.dataset import Dataset
from lorefuse.data.ingest import ingest
from tests.unit.data.conftest import Shop


@pytest.fixture
def path(shop: Shop, tmp_path: Path) -> Path:
    (tmp_path / "dataset").mkdir()
    ingest(shop.config(), tmp_path / "dataset")
    return tmp_path / "dataset"


def test_a_whole_dataset_opens_from_anywhere(path: Path, tmp_path: Path) -> None:
    moved = shutil.move(path, tmp_path / "elsewhere")
    assert len(Dataset.open(str(moved)).interactions()) == 4


@pytest.mark.parametrize("name", ["interactions.parquet", "items.parquet", "users.parquet", "quarantine.jsonl"])
def test_a_missing_file_is_named(path: Path, name: str) -> None:
    (path / name).unlink()
    with pytest.raises(ArtifactError, match=name):
        Dataset.open(path)


@pytest.mark.parametrize("name", ["interactions.parquet", "items.parquet"])
def test_a_file_cut_short_is_refused(path: Path, name: str) -> None:
    whole = (path / name).read_bytes()
    (path / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ArtifactError, match="cut short") as caught:
        Dataset.open(path)
    assert caught.value.fix
    assert caught.value.exit_code == 1


def test_one_changed_byte_is_found(path: Path) -> None:
    content = bytearray((path / "items.parquet").read_bytes())
    content[len(content) // 2] ^= 1
    (path / "items.parquet").write_bytes(content)
    with pytest.raises(ArtifactError, match="has changed"):
        Dataset.open(path)


@pytest.mark.parametrize("manifest", ["", "{", "[]", "{}", '{"sha256": 3}', '{"sha256": {}, "roles": {"colour": 1}}'])
def test_a_manifest_that_is_none_is_refused(path: Path, manifest: str) -> None:
    (path / "manifest.json").write_text(manifest)
    with pytest.raises(ArtifactError, match="is not a dataset folder"):
        Dataset.open(path)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="is not a dataset folder"):
        Dataset.open(tmp_path / "nowhere")


def test_the_manifest_describes_the_files(path: Path) -> None:
    manifest = json.loads((path / "manifest.json").read_text())
    assert set(manifest["sha256"]) == {p.name for p in path.iterdir()} - {"manifest.json"}
    assert manifest["cutoffs"] == {"first": "1970-01-01T00:08:20+00:00", "last": "1970-01-01T00:33:20+00:00"}
    assert manifest["schema"]["interactions"]["event_timestamp"] == "datetime64[us, UTC]"
    assert manifest["label"] == {"kind": "binary", "threshold": 4.0}
