"""RecBole's atomic files become the dataset of the contract; a real file of the format is read where it is there."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from lorefuse.config import DataConfig, PipelineConfig, parse_config
from lorefuse.config.sources import RecBoleSource
from lorefuse.core.errors import DataError
from lorefuse.data.dataset import Dataset
from lorefuse.data.ingest import ingest
from lorefuse.data.quarantine import Quarantine
from lorefuse.data.recbole import read_atomic
from lorefuse.steps import dump_config

INTER = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n1\ta\t5\t978300760\n2\tb\t2.5\t978302109\n2\tb\n"
ITEM = (
    "item_id:token\ttitle:token_seq\tclass:token_seq\tmaker:token\tprice:float\tvector:float_seq\n"
    'a\tThe "A"\tnew red\tX\t1.5\t1 2\nb\tThe B\t\t\t\t\n'
)
USER = "user_id:token\tgender:token\n1\tF\n2\tM\n"


def write(folder: Path, **files: str) -> RecBoleSource:
    for suffix, text in {"inter": INTER, "item": ITEM, **files}.items():
        (folder / f"shop.{suffix}").write_text(text, "utf-8")
    return RecBoleSource(folder_path=folder, name="shop", item_text=("title",))


@pytest.mark.parametrize("with_users", [True, False])
def test_atomic_files_become_a_dataset(tmp_path: Path, with_users: bool) -> None:
    source = write(tmp_path, **({"user": USER} if with_users else {}))
    out_path = tmp_path / "dataset"
    out_path.mkdir()
    ingest(DataConfig(source=source, max_bad_share=1), out_path)
    dataset = Dataset.open(out_path)
    assert dataset.interactions()["value"].tolist() == [5.0, 2.5]
    items = dataset.items()
    assert items["title"].tolist() == ['The "A"', "The B"]
    assert [list(cell) for cell in items["class"]] == [["new", "red"], []]
    assert items["maker"].tolist() == ["X", ""]
    assert items["price"].tolist()[0] == 1.5
    assert "vector" not in items
    assert dataset.roles.user_categories == (("gender",) if with_users else ())
    row = json.loads((out_path / "quarantine.jsonl").read_text("utf-8"))
    assert (row["file"], row["line"], row["reason"]) == ("shop.inter", 4, "wrong number of cells: 2, expected 4")


def test_a_header_without_types_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    source = write(tmp_path, inter="user_id\titem_id\n1\ta\n")
    for _ in range(2):
        with pytest.raises(DataError) as caught:
            ingest(DataConfig(source=source), tmp_path)
        assert caught.value.fix
        (tmp_path / "shop.inter").unlink(missing_ok=True)


def test_the_source_survives_as_a_pipeline_parameter(tmp_path: Path) -> None:
    source = RecBoleSource(folder_path=tmp_path, name="x", value="", item_text=("title",))
    config = PipelineConfig(data=DataConfig(source=source))
    assert parse_config(json.loads(json.dumps(dump_config(config)))) == config


def test_a_real_atomic_file() -> None:
    shared = Path(os.environ.get("LOREFUSE_SHARED_DATA", Path(__file__).parents[4] / "shared" / "data"))
    path = shared / "amazon-scientific-small" / "Scientific.text"
    if not path.is_file():
        pytest.skip(f"no {path}: set LOREFUSE_SHARED_DATA")
    quarantine = Quarantine()
    frame, types = read_atomic(path, quarantine)
    assert types == {"item_id": "token", "text": "token_seq"}
    assert len(frame) == sum(1 for line in path.read_bytes().split(b"\n") if line.strip()) - 1
    assert not quarantine.rows
