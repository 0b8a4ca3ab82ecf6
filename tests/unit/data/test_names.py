"""Users' columns with any name beside every name that Lorefuse uses inside, from files through the feature store."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from lorefuse import steps
from lorefuse.config import FileSource, load_config
from lorefuse.core import schema
from lorefuse.core.errors import ConfigError, DataError
from lorefuse.core.schema import Tensor, View
from lorefuse.data import amazon, mind, movielens
from lorefuse.data.append import append, source_of
from lorefuse.data.dataset import Dataset
from lorefuse.data.files import names_of, roles_of
from lorefuse.data.ingest import ingest
from lorefuse.data.names import OURS, inner_name, item_names, said_names, shown_name, user_names
from lorefuse.data.quarantine import LINE
from lorefuse.drift.sample import sample_of
from lorefuse.embedding.prompt import item_texts
from lorefuse.feature_store.store import online_features
from lorefuse.features.aggregates import ITEM_NUMERIC, USER_NUMERIC
from lorefuse.features.build import read_views
from lorefuse.features.profile import USER_TEXT_FACETS
from lorefuse.features.rows import interest_facets
from lorefuse.features.vocabulary import load_vocabularies
from lorefuse.training.train import train
from lorefuse.training_set.arrays import TrainingSet
from tests.helpers.shop import write_shop
from tests.unit.data.conftest import Shop

ODD = (
    "two words",
    "größe",
    "обложка",
    'a "quoted" one',
    "view:feature",
    "a.b",
    "a__b",
    "Label",
    "select",
    "1",
    "-",
    "🎬",
)


def _names_of_contract() -> set[str]:
    told = {name: value for name, value in vars(schema).items() if name.isupper() and isinstance(value, str)}
    apart = ("TIMESTAMP_UNIT", "BLOCK_NAME", "TEXT", "GRAPH")  # no names of columns
    return {value for name, value in told.items() if name not in apart}


def test_every_name_used_inside_is_known_as_ours() -> None:
    """A name that is added to the product and not here would meet a user's column of that name one day."""
    named = _names_of_contract() | {*View, *Tensor, *USER_NUMERIC, *ITEM_NUMERIC, *USER_TEXT_FACETS, LINE}
    facets = interest_facets({"text": 1, "graph": 1})
    named |= {facet.name for facet in facets} | {facet.against for facet in facets}
    assert named <= OURS


def test_a_name_from_inside_is_not_changed_again() -> None:
    for name in (*OURS, *ODD):
        assert inner_name(inner_name(name)) == inner_name(name)
        assert inner_name(name).lower() not in OURS
    assert [shown_name(inner_name(name)) for name in sorted(OURS)] == sorted(OURS)
    assert (inner_name("genre"), shown_name("own_goal")) == ("genre", "own_goal")


def test_sources_of_ours_name_no_column_like_ours() -> None:
    for roles in (amazon.ROLES, mind.ROLES, movielens.ROLES):
        items = {*roles.item_categories, *roles.item_multi_categories}
        assert not {*items, *roles.item_text, *roles.item_numerics, *roles.user_categories} & OURS
        assert not items & set(roles.user_categories)


def _shop_with(folder: Path, names: list[str]) -> Path:
    """The shop, whose items and users have a category of each name; each column has values of its own."""
    path = write_shop(folder)
    items, rows = pd.read_csv(folder / "items.csv"), pd.read_csv(folder / "interactions.csv")
    items = items.rename(columns={"item_id": "sku"})
    users = pd.DataFrame({"who": sorted(rows["user_id"].unique())})
    for place, name in enumerate(names):
        items[name] = [f"item {place} {n % 2}" for n in range(len(items))]
        users[name] = [f"user {place} {n % 3}" for n in range(len(users))]
    items.to_parquet(folder / "items.parquet")
    users.to_parquet(folder / "users.parquet")
    rows.rename(columns={"item_id": "sku", "user_id": "who"}).to_csv(folder / "interactions.csv", index=False)
    content = yaml.safe_load(path.read_text("utf-8"))
    source = content["data"]["source"]
    source |= {"items_path": "items.parquet", "users_path": "users.parquet", "item_id": "sku", "user_id": "who"}
    source |= {"item_categories": names, "user_categories": names, "item_text": ["title", "label"]}
    del source["triples_path"], source["links_path"]
    path.write_text(yaml.safe_dump(content), "utf-8")
    return path


@pytest.mark.slow
def test_any_name_goes_through_the_feature_store_to_a_training(tmp_path: Path) -> None:
    names = sorted({*OURS, *ODD} - {LINE})
    pipeline = load_config(_shop_with(tmp_path, names))
    made = steps.prepare(pipeline, "per_user_time")
    rows = TrainingSet.load(made["training_set"])
    items, users = names_of(pipeline.data.source)
    inner, inner_users = [items[name] for name in names], [users[name] for name in names]
    assert len({name.lower() for name in inner}) == len(names)
    assert [field.name for field in rows.spec.item_fields] == ["item_id", *inner]
    assert [field.name for field in rows.spec.user_fields] == ["user_id", *inner_users]
    assert [field.size for field in rows.spec.item_fields[1:]] == [3] * len(names)
    assert [field.size for field in rows.spec.user_fields[1:]] == [4] * len(names)
    vocabularies = load_vocabularies(made["feature_data"])
    for place, (name, of_users) in enumerate(zip(inner, inner_users, strict=True)):
        assert vocabularies[name].values == (f"item {place} 0", f"item {place} 1")
        assert vocabularies[of_users].values == tuple(f"user {place} {n}" for n in range(3))
    views = read_views(made["feature_data"])["views"]
    assert views["user_attributes"]["fields"].keys() == set(inner_users)
    ids = Dataset.open(made["dataset"]).users()["user_id"].tolist()
    online = online_features(made["store"], View.USER_ATTRIBUTES, inner_users, ids[:4])
    for place, name in enumerate(inner_users):
        assert online[name].tolist() == [f"user {place} {n % 3}" for n in range(4)]
    sample = sample_of(rows, np.arange(50), None)
    assert {*inner, *inner_users, "materials", "label"} == sample.categories.keys()
    train(rows, pipeline.model, pipeline.training)


def test_an_items_file_with_columns_of_interactions(shop: Shop, tmp_path: Path) -> None:
    """The case of a join written to the items file: user_id and event_timestamp stand in it too."""
    shop.write("items.csv", "item_id,title,user_id,label,value\ni1,Tea,u9,x,a|b\ni2,Coffee,u8,y,b\ni3,Ice,u9,,\n")
    roles = {"item_text": ("title", "label"), "item_categories": ("user_id",), "item_multi_categories": ("value",)}
    out = tmp_path / "out"
    out.mkdir()
    manifest = ingest(shop.config(item_numerics=(), **roles), out)
    dataset = Dataset.open(out)
    items = dataset.items()
    assert items["own_user_id"].tolist() == ["u9", "u8", "u9"]
    assert [list(cell) for cell in items["own_value"]] == [["a", "b"], ["b"], []]
    renamed = {"label": "own_label", "user_id": "own_user_id", "value": "own_value"}
    assert manifest["reports"]["renamed_items"] == renamed
    # Texts, templates and facets go by the name in the file.
    assert item_texts(items, dataset.roles.item_text, "default@1")[0] == "Title: Tea. Label: x."
    assert item_texts(items, [], "{title} of {value}")[0] == "Tea of a, b"
    # What is read again from the dataset's own files is the same.
    again = tmp_path / "again"
    again.mkdir()
    ingest(shop.config().model_copy(update={"source": source_of(dataset)}), again)
    pd.testing.assert_frame_equal(Dataset.open(again).items(), items)
    # New items come with the names of the file as well.
    shop.write("more.csv", "item_id,title,user_id,label,value\ni4,Milk,u7,z,c|a\n")
    shop.write("new.csv", "user_id,item_id,rating,timestamp\nu1,i4,5,3000\n")
    grown = tmp_path / "grown"
    grown.mkdir()
    config = shop.config(item_numerics=(), **roles)
    append(dataset, config, shop.path / "new.csv", shop.path / "more.csv", grown)
    last = Dataset.open(grown).items().iloc[-1]
    assert (last["item_id"], last["own_user_id"], last["own_label"], list(last["own_value"])) == (
        "i4",
        "u7",
        "z",
        ["c", "a"],
    )


def test_an_own_item_id_beside_the_id(shop: Shop, tmp_path: Path) -> None:
    shop.write("items.csv", "sku,title,item_id\ni1,Tea,a\ni2,Coffee,b\ni3,Ice,a\n")
    shop.write_rows("u1,i1,5,1000", "u1,i2,3,2000", header="user_id,sku,rating,timestamp")
    (tmp_path / "out").mkdir()
    roles = {"item_multi_categories": (), "item_numerics": (), "item_categories": ("item_id",)}
    ingest(shop.config(item_id="sku", **roles), tmp_path / "out")
    items = Dataset.open(tmp_path / "out").items()
    assert items["item_id"].tolist() == ["i1", "i2", "i3"]
    assert items["own_item_id"].tolist() == ["a", "b", "a"]


def test_names_that_would_meet_are_numbered() -> None:
    """DuckDB, which Feast asks, does not tell upper case from lower."""
    assert item_names(["label", "own_label", "Genre", "genre"]) == {
        "label": "own_label",
        "own_label": "own_label_2",
        "Genre": "Genre",
        "genre": "genre_2",
    }
    assert user_names(["Country", "user_country"], ["country"]) == {
        "Country": "user_Country",
        "user_country": "user_country_2",
    }


def test_a_column_that_plays_two_parts_is_refused(shop: Shop) -> None:
    with pytest.raises(ConfigError, match="'genres' is named twice") as caught:
        ingest(shop.config(item_categories=("genres",)), shop.path)
    assert caught.value.exit_code == 2
    with pytest.raises(DataError, match="rename it in the file: Lorefuse keeps this name for the numbers of lines"):
        ingest(shop.config(item_categories=(LINE,)), shop.path)


def test_users_and_items_may_have_a_column_of_one_name() -> None:
    assert user_names(["country", "age"], ["country"]) == {"country": "user_country", "age": "age"}
    source = FileSource(
        interactions_path=Path("a"),
        items_path=Path("b"),
        users_path=Path("c"),
        item_categories=("country",),
        user_categories=("country",),
    )
    assert (roles_of(source).item_categories, roles_of(source).user_categories) == (("country",), ("user_country",))


def test_people_say_the_names_of_their_files() -> None:
    source = FileSource(
        interactions_path=Path("a"),
        items_path=Path("b"),
        users_path=Path("c"),
        item_categories=("gender", "label", "a:b"),
        item_multi_categories=("Gender",),
        user_categories=("gender", "value", "age"),
    )
    items, users = names_of(source)
    reports = {"renamed_items": items, "renamed_users": users}
    filters, context = said_names(roles_of(source), reports)
    assert filters == {"label": "own_label", "a:b": "a_b", "Gender": "Gender_2"}
    assert context == {"gender": "user_gender", "value": "own_value"}
    # Where a dataset's own files were read again, the names inside still tell what they stand for.
    assert said_names(roles_of(source), {})[1] == context
    assert said_names(roles_of(source), {})[0] == {"label": "own_label"}
