"""Amazon, MIND and MovieLens 1M/25M: small files in exactly the published formats become a dataset."""

from __future__ import annotations

import gzip
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest

from lorefuse.config import DataConfig, PipelineConfig, load_config, parse_config
from lorefuse.config.sources import AmazonSource, MINDSource, MovieLensLargeSource
from lorefuse.core.errors import ConfigError, DataError
from lorefuse.data.amazon import addresses
from lorefuse.data.dataset import Dataset
from lorefuse.data.ingest import ingest
from lorefuse.data.movielens_large import read_movielens_large
from lorefuse.data.quarantine import Quarantine
from lorefuse.data.sources import local_digests
from lorefuse.steps import dump_config

ROOT = Path(__file__).parents[3]
REVIEWS_2018 = [
    {"overall": 5.0, "reviewerID": "A1", "asin": "B1", "reviewText": "Good", "unixReviewTime": 1529193600},
    {"overall": 2.0, "reviewerID": "A2", "asin": "B2", "unixReviewTime": 1528934400},
    {"overall": 4.0, "reviewerID": "A1", "asin": "B3", "unixReviewTime": 1528934401},
]
META_2018 = [
    {
        "asin": "B1",
        "title": "Tea &amp; Milk",
        "brand": "Leaf",
        "category": ["Food", "Tea"],
        "description": ["Hot.", "Sweet."],
        "main_cat": "Grocery",
    },
    {"asin": "B2", "title": "Cup", "brand": "", "category": [], "description": []},
    {"asin": "B9", "title": "Nobody bought it"},
]
REVIEWS_2023 = [
    {"rating": 5.0, "user_id": "A1", "parent_asin": "B1", "asin": "B1x", "text": "Good", "timestamp": 1588687728923},
    {"rating": 1.0, "user_id": "A2", "parent_asin": "B1", "asin": "B1y", "text": "Bad", "timestamp": 1588687728924},
]
META_2023 = [
    {
        "parent_asin": "B1",
        "title": "Tea",
        "store": "Leaf",
        "main_category": "Grocery",
        "features": ["hot"],
        "description": [],
        "categories": ["Food", "Tea"],
        "price": None,
    }
]


def json_lines(path: Path, rows: list[Any], *more: bytes) -> Path:
    content = b"".join([*(json.dumps(row).encode() + b"\n" for row in rows), *(line + b"\n" for line in more)])
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def amazon(tmp_path: Path, release: Any, reviews: list[Any], meta: list[Any], *more: bytes) -> AmazonSource:
    return AmazonSource(
        release=release,
        reviews_path=json_lines(tmp_path / "R_5.json.gz", reviews, *more),
        meta_path=json_lines(tmp_path / "meta_R.json.gz", meta),
    )


def run(source: Any, tmp_path: Path, max_bad_share: float = 1.0, threshold: float = 4.0) -> Dataset:
    out_path = tmp_path / "dataset"
    out_path.mkdir()
    config = DataConfig(source=source, max_bad_share=max_bad_share, label={"threshold": threshold})
    ingest(config, out_path)
    return Dataset.open(out_path)


def reasons(dataset: Dataset) -> list[tuple[str, int, str]]:
    rows = [json.loads(line) for line in (dataset.path / "quarantine.jsonl").read_text("utf-8").splitlines()]
    return [(row["file"], row["line"], row["reason"]) for row in rows]


def test_amazon_2018(tmp_path: Path) -> None:
    python_line = b"{'reviewerID': 'A3', 'asin': 'B1', 'overall': 1.0, 'unixReviewTime': 1528934402}"
    bad = (b"{broken", b"\xff\xfe", b"[1]", b"{'a': __import__('os')}", b'{"asin": "B1"}')
    source = amazon(tmp_path, "2018", REVIEWS_2018, META_2018, python_line, *bad)
    dataset = run(source, tmp_path)
    events = dataset.interactions()
    assert events["user_id"].tolist() == ["A2", "A1", "A3", "A1"]
    assert events["item_id"].tolist() == ["B2", "B3", "B1", "B1"]
    assert events["label"].tolist() == [0, 1, 0, 1]
    assert events["event_timestamp"].iloc[-1].isoformat() == "2018-06-17T00:00:00+00:00"
    items = dataset.items().set_index("item_id")
    assert items.loc["B1", ["title", "brand", "description", "main_category"]].tolist() == [
        *("Tea & Milk", "Leaf", "Hot. Sweet.", "Grocery")
    ]
    assert list(items.loc["B1", "categories"]) == ["Food", "Tea"]
    assert items.loc["B3", "title"] == ""
    assert dataset.manifest["reports"]["num_items_without_meta"] == 1
    assert dataset.manifest["reports"]["num_meta_without_review"] == 1
    assert reasons(dataset) == [
        ("R_5.json.gz", 5, "not JSON"),
        ("R_5.json.gz", 6, "not UTF-8"),
        ("R_5.json.gz", 7, "not a JSON object"),
        ("R_5.json.gz", 8, "neither JSON nor a Python literal"),
        ("R_5.json.gz", 9, "no usable field: reviewerID"),
    ]


def test_amazon_keeps_reviews_where_it_is_asked_to(tmp_path: Path) -> None:
    first = {**REVIEWS_2018[0], "summary": "Very &amp; nice", "reviewText": "Good\n tea. " + "x" * 2000}
    source = amazon(tmp_path, "2018", [first, *REVIEWS_2018[1:]], META_2018).model_copy(update={"reviews": True})
    dataset = run(source, tmp_path)
    texts = dataset.row_texts("review_text")
    assert texts is not None
    assert texts[:2] == ["", ""]
    assert texts[2].startswith("Very & nice. Good tea. xxx")
    assert len(texts[2]) == 1000
    assert "review_text" not in dataset.interactions().columns
    (tmp_path / "new").mkdir()
    source = amazon(tmp_path / "new", "2023", REVIEWS_2023, META_2023).model_copy(update={"reviews": True})
    assert run(source, tmp_path / "new").row_texts("review_text") == ["Good", "Bad"]
    (tmp_path / "none").mkdir()
    without = run(source.model_copy(update={"reviews": False}), tmp_path / "none")
    assert without.row_texts("review_text") is None


def test_amazon_2023_joins_by_the_parent_and_reads_milliseconds(tmp_path: Path) -> None:
    dataset = run(amazon(tmp_path, "2023", REVIEWS_2023, META_2023), tmp_path)
    assert dataset.interactions()["item_id"].tolist() == ["B1", "B1"]
    assert dataset.interactions()["event_timestamp"].iloc[0].isoformat() == "2020-05-05T14:08:48.923000+00:00"
    assert dataset.items()["brand"].tolist() == ["Leaf"]


def test_amazon_of_the_other_release_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no review of the 2023 release") as caught:
        run(amazon(tmp_path, "2023", REVIEWS_2018, META_2018), tmp_path)
    assert "release" in (caught.value.fix or "")


def test_a_gzip_cut_short_is_refused(tmp_path: Path) -> None:
    source = amazon(tmp_path, "2018", REVIEWS_2018, META_2018)
    assert source.reviews_path is not None
    source.reviews_path.write_bytes(source.reviews_path.read_bytes()[:-20])
    with pytest.raises(DataError, match="damaged or was cut short"):
        run(source, tmp_path)


def test_amazon_addresses() -> None:
    root = "https://mcauleylab.ucsd.edu/public_datasets/data"
    assert addresses(AmazonSource(release="2018", category="Gift_Cards")) == (
        f"{root}/amazon_v2/categoryFilesSmall/Gift_Cards_5.json.gz",
        f"{root}/amazon_v2/metaFiles2/meta_Gift_Cards.json.gz",
    )
    assert addresses(AmazonSource(release="2023", category="Gift_Cards")) == (
        f"{root}/amazon_2023/raw/review_categories/Gift_Cards.jsonl.gz",
        f"{root}/amazon_2023/raw/meta_categories/meta_Gift_Cards.jsonl.gz",
    )


def test_amazon_gift_cards_for_real(tmp_path: Path) -> None:
    folder = Path(os.environ.get("LOREFUSE_SHARED_DATA", ROOT.parent / "shared" / "data")) / "amazon-giftcards"
    if not folder.is_dir():
        pytest.skip(f"no Amazon Gift Cards in {folder}: set LOREFUSE_SHARED_DATA")
    source = AmazonSource(
        release="2018",
        reviews_path=folder / "Gift_Cards_5.json.gz",
        meta_path=folder / "meta_Gift_Cards.json.gz",
    )
    dataset = run(source, tmp_path, max_bad_share=0.25, threshold=5.0)
    counts, quarantined = dataset.manifest["counts"], dataset.manifest["quarantined"]
    with gzip.open(folder / "Gift_Cards_5.json.gz") as stream:
        num_lines = sum(1 for _ in stream)
    lost = sum(count for reason, count in quarantined.items() if reason.startswith("Gift_Cards_5"))
    assert counts["interactions"] + lost == num_lines
    assert counts["items"] == dataset.interactions()["item_id"].nunique()
    assert (dataset.items()["title"] != "").mean() > 0.9


NEWS = [
    ("N1", "sports", "soccer", 'The "Cup"', "Who won.", "http://n1", '[{"Label": "FIFA", "WikidataId": "Q1"}]', "[]"),
    ("N2", "news", "world", "Rain", "", "http://n2", "", ""),
    ("N3", "news", "us", "Old", "Before the log.", "http://n3", "[]", "[]"),
    ("N4", "news", "us", "Never", "shown", "http://n4", "[]", "[]"),
]
BEHAVIORS = [
    ("1", "U1", "11/15/2019 12:05:58 AM", "N3 N1", "N1-1 N2-0"),
    ("2", "U2", "11/15/2019 1:00:00 PM", "", "N2-1"),
    ("3", "U2", "11/15/2019 1:00:00 PM", "", "N2 N1"),
]


def mind_folder(path: Path) -> Path:
    path.mkdir()
    for name, rows in (("news.tsv", NEWS), ("behaviors.tsv", BEHAVIORS)):
        (path / name).write_text("".join("\t".join(row) + "\n" for row in rows), "utf-8")
    return path


@pytest.mark.parametrize("zipped", [False, True])
def test_mind(tmp_path: Path, zipped: bool) -> None:
    path = mind_folder(tmp_path / "MINDsmall_train")
    if zipped:
        with zipfile.ZipFile(tmp_path / "m.zip", "w") as archive:
            for file in path.iterdir():
                archive.write(file, f"MINDsmall_train/{file.name}")
        path = tmp_path / "m.zip"
    dataset = run(MINDSource(train_path=path), tmp_path, threshold=1.0)
    events = dataset.interactions()
    rows = list(zip(events["user_id"], events["item_id"], events["label"], strict=True))
    assert rows == [("U1", "N3", 1), ("U1", "N1", 1), ("U1", "N1", 1), ("U1", "N2", 0), ("U2", "N2", 1)]
    times = [time.strftime("%d %H:%M:%S") for time in events["event_timestamp"]]
    assert times == ["15 00:05:56", "15 00:05:57", "15 00:05:58", "15 00:05:58", "15 13:00:00"]
    items = dataset.items().set_index("item_id")
    assert sorted(items.index) == ["N1", "N2", "N3"]
    assert items.loc["N1", "title"] == 'The "Cup"'
    assert list(items.loc["N1", "entities"]) == ["FIFA"]
    assert reasons(dataset) == [(f"{path.name}/behaviors.tsv", 3, "impression without a click label")]


def test_mind_without_history_and_without_a_file(tmp_path: Path) -> None:
    path = mind_folder(tmp_path / "train")
    assert len(run(MINDSource(train_path=path, history=False), tmp_path, threshold=1.0).interactions()) == 3
    (path / "news.tsv").unlink()
    with pytest.raises(DataError, match=r"holds no news\.tsv"):
        ingest(DataConfig(source=MINDSource(train_path=path)), tmp_path)


def movielens_1m(path: Path) -> Path:
    path.mkdir()
    ratings = "1::10::5::978300760\n2::11::3::978302109\n1::11::2::978301968\nbroken\n"
    movies = "10::Misérables, Les (1995)::Drama|War\n11::Film: A::Story (1987)::Comedy\n11::Film (1987)::Comedy\n"
    (path / "ratings.dat").write_text(ratings, "latin-1")
    (path / "movies.dat").write_text(movies, "latin-1")
    (path / "users.dat").write_text("1::F::1::10::48067\n2::M::56::16::70072\n", "latin-1")
    return path


def test_movielens_1m(tmp_path: Path) -> None:
    source = MovieLensLargeSource(kind="movielens_1m", data_path=movielens_1m(tmp_path / "ml-1m"))
    dataset = run(source, tmp_path)
    assert dataset.interactions()["item_id"].tolist() == ["10", "11", "11"]
    assert dataset.items()["title"].tolist() == ["Misérables, Les", "Film"]
    assert dataset.items()["release_year"].tolist() == ["1995", "1987"]
    assert list(dataset.items()["genres"][0]) == ["Drama", "War"]
    assert dataset.users()["occupation"].tolist() == ["K-12 student", "self-employed"]
    assert dataset.users()["age_bucket"].tolist() == ["under 18", "56+"]
    assert reasons(dataset) == [
        ("movies.dat", 2, "wrong number of cells: 4, expected 3"),
        ("ratings.dat", 4, "wrong number of cells: 1, expected 4"),
    ]


def test_movielens_25m_from_a_zip_with_a_draw_of_users(tmp_path: Path) -> None:
    ratings = "userId,movieId,rating,timestamp\n" + "".join(f"{user},1,4.5,1147880044\n" for user in range(20))
    movies = 'movieId,title,genres\n1,"American President, The (1995)",Comedy|Drama\n2,Babylon 5,(no genres listed)\n'
    with zipfile.ZipFile(tmp_path / "ml-25m.zip", "w") as archive:
        archive.writestr("ml-25m/ratings.csv", ratings)
        archive.writestr("ml-25m/movies.csv", movies)
    source = MovieLensLargeSource(kind="movielens_25m", data_path=tmp_path / "ml-25m.zip", num_users=5)
    tables = read_movielens_large(source, Quarantine())
    again = read_movielens_large(source, Quarantine())
    assert len(tables.interactions) == 5
    assert tables.interactions.equals(again.interactions)
    assert tables.interactions["__line__"].is_monotonic_increasing
    assert tables.items["title"].tolist() == ["American President, The", "Babylon 5"]
    assert tables.items["genres"].tolist() == ["Comedy|Drama", ""]
    assert tables.items["release_year"].tolist() == ["1995", ""]
    assert tables.users is None
    everyone = read_movielens_large(source.model_copy(update={"num_users": 0}), Quarantine())
    assert len(everyone.interactions) == 20


SOURCES = [
    AmazonSource(release="2018", category="Gift_Cards"),
    AmazonSource(release="2023", reviews_path=Path("/data/r.jsonl"), meta_path=Path("/data/m.jsonl")),
    MINDSource(),
    MINDSource(train_path=Path("/data/train"), history=False),
    MovieLensLargeSource(kind="movielens_1m"),
    MovieLensLargeSource(kind="movielens_25m", data_path=Path("/data/ml-25m.zip"), num_users=100),
]


@pytest.mark.parametrize("number", range(len(SOURCES)))
def test_a_source_survives_as_a_pipeline_parameter(number: int) -> None:
    config = PipelineConfig(data=DataConfig(source=SOURCES[number]))
    carried = json.loads(json.dumps(dump_config(config)))
    assert "null" not in json.dumps(carried)
    assert parse_config(carried) == config


@pytest.mark.parametrize("path", sorted((ROOT / "pipelines/configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_preset_loads_and_survives(path: Path) -> None:
    config = load_config(path)
    assert path.read_text("utf-8").startswith("#")
    assert parse_config(dump_config(config)) == config


@pytest.mark.parametrize("content", [{}, {"category": "A", "reviews_path": "r", "meta_path": "m"}, {"meta_path": "m"}])
def test_an_amazon_source_has_one_origin(content: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="category"):
        parse_config({"data": {"source": {"kind": "amazon_reviews", **content}}})


def test_a_changed_local_file_is_another_input(tmp_path: Path) -> None:
    config = DataConfig(source=amazon(tmp_path, "2018", REVIEWS_2018, META_2018))
    before = local_digests(config)
    json_lines(tmp_path / "meta_R.json.gz", META_2018[:1])
    after = local_digests(config)
    assert before["reviews_path"] == after["reviews_path"]
    assert before["meta_path"] != after["meta_path"]
    folder = DataConfig(source=MINDSource(train_path=mind_folder(tmp_path / "train")))
    assert set(local_digests(folder)) == {"train_path"}
