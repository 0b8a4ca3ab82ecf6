"""What `recommend` does with candidates, filters, context and requests at the edge, by a real Triton."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lorefuse.client import Client
from lorefuse.core.errors import DeployError, UsageError
from lorefuse.core.schema import View
from lorefuse.deploy.control import Control
from lorefuse.deploy.supervisor import Supervisor
from lorefuse.export.bundle import Bundle
from lorefuse.feature_store.store import online_features
from tests.helpers.request_rows import text_row
from tests.helpers.synthetic_bundle import NUM_ITEMS, World


def ids(answer: Any) -> list[str]:
    return [item.item_id for item in answer.items]


def ranking(client: Client, user: str, world: World) -> list[str]:
    """All items of the catalogue for a user, best first: in two requests, for one holds up to 25."""
    first = ids(client.recommend(user, 25, exclude_seen=False))
    rest = [item for item in world.dataset.items()["item_id"] if item not in first]
    return first + ids(client.recommend(user, 25, exclude_seen=False, candidates=rest))


def raw(served: Supervisor, **inputs: np.ndarray) -> dict[str, np.ndarray]:
    return Control(served.url).infer("recommend", {"user_id": text_row(["u3"]), **inputs})


def test_candidates_are_ranked_as_the_catalogue_ranks_them(client: Client, world: World) -> None:
    everything = ranking(client, "u3", world)
    assert sorted(everything) == sorted(world.dataset.items()["item_id"])
    chosen = everything[5::7]
    assert ids(client.recommend("u3", 25, exclude_seen=False, candidates=sorted(chosen))) == chosen


def test_repeated_and_unknown_candidates_do_not_count(client: Client) -> None:
    chosen = ["i3", "no such item", "i5", "i3", "i3", ""]
    once = client.recommend("nobody", 10, candidates=["i3", "i5"])
    assert client.recommend("nobody", 10, candidates=chosen) == once
    assert len(once.items) == 2


def test_no_candidates_give_no_items(served: Supervisor, client: Client) -> None:
    answer = client.recommend("u3", 5, candidates=[])
    assert answer.items == []
    assert answer.model_version == "1"
    assert client.recommend("u3", 5, candidates=["nothing we know"]).items == []
    got = raw(served, candidates=np.zeros((1, 0), np.object_))
    assert got["item_id"].tolist() == [[b""]]
    assert np.isneginf(got["score"]).all()


def test_candidates_somebody_has_seen_stay_away_unless_asked_for(client: Client, world: World) -> None:
    seen = list(online_features(world.store_path, View.USER_HISTORY, ["seen"], ["u3"]).loc[0, "seen"])
    assert client.recommend("u3", 10, candidates=seen).items == []
    assert sorted(ids(client.recommend("u3", 25, exclude_seen=False, candidates=seen[:20]))) == sorted(seen[:20])


def test_filters_are_masks_over_the_catalogue(client: Client, world: World) -> None:
    items = world.dataset.items().set_index("item_id")
    everything = ranking(client, "u3", world)

    def check(filters: Any, passing: Any) -> None:
        expected = [item for item in everything if passing(items.loc[item])][:25]
        assert ids(client.recommend("u3", 25, exclude_seen=False, filters=filters)) == expected

    check({"decade": "1980s"}, lambda item: item["decade"] == "1980s")
    check({"genres": ["War", "Comedy"]}, lambda item: {"War", "Comedy"} & set(item["genres"]))
    check({"genres": "War", "decade": "1970s"}, lambda item: "War" in item["genres"] and item["decade"] == "1970s")
    check(["genres!=War"], lambda item: "War" not in item["genres"])
    check(["genres=War", "genres!=Comedy", ""], lambda item: set(item["genres"]) - {"Drama"} == {"War"})
    check(["genres=War", "decade!=1970s"], lambda item: "War" in item["genres"] and item["decade"] != "1970s")


def test_a_value_that_no_item_has_gives_no_items(client: Client) -> None:
    assert client.recommend("u3", filters={"decade": "2050s"}).items == []
    assert client.recommend("u3", filters=["decade=1980s", "decade!=1980s"]).items == []


def test_filters_candidates_and_seen_items_meet(client: Client, world: World) -> None:
    decade = world.dataset.items().set_index("item_id")["decade"]
    seen = set(online_features(world.store_path, View.USER_HISTORY, ["seen"], ["u7"]).loc[0, "seen"])
    chosen = [f"i{n}" for n in range(0, NUM_ITEMS, 2)]
    answer = client.recommend("u7", 25, candidates=chosen, filters={"decade": ["1970s", "1990s"]})
    assert set(ids(answer)) == {item for item in chosen if decade[item] != "1980s"} - seen
    assert answer.items


def test_context_stands_before_the_store(served: Supervisor, client: Client, world: World) -> None:
    vocabulary = Bundle.load(world.path / "bundle0").read_json("vocabularies.json")["gender"]
    for user in ("u3", "nobody"):
        for value, index in (("M", vocabulary.index("M") + 1), ("F", vocabulary.index("F") + 1), ("new", 0)):
            got = Control(served.url).infer(
                "features", {"user_id": text_row([user]), "context": text_row([f"gender={value}"])}
            )
            assert got["user_fields"][0, 1] == index
    plain, female = client.recommend("nobody", 25), client.recommend("nobody", 25, context={"gender": "F"})
    assert [item.score for item in plain.items] != [item.score for item in female.items]


def test_each_user_of_a_batch_has_wishes_of_their_own(served: Supervisor, client: Client) -> None:
    lists = [["i3", "i5", "i9"], ["i4"]]
    filters = [["decade!=1970s"], []]
    got = Control(served.url).infer(
        "recommend",
        {
            "user_id": np.concatenate([text_row(["u3"]), text_row(["nobody"])]),
            "k": np.array([[2], [25]], np.int32),
            "candidates": np.array(
                [[text.encode() for text in [*row, *[""] * (3 - len(row))]] for row in lists], object
            ),
            "filters": np.array([[text.encode() for text in row or [""]] for row in filters], object),
        },
    )
    for number, user in enumerate(("u3", "nobody")):
        expected = ids(client.recommend(user, (2, 25)[number], candidates=lists[number], filters=filters[number]))
        assert [item.decode() for item in got["item_id"][number] if item] == expected


def test_more_than_the_catalogue_gives_the_catalogue(client: Client) -> None:
    assert len(client.recommend("nobody", 25, filters={"decade": "1970s"}).items) == 14
    assert len(client.recommend("nobody", 25, candidates=["i1", "i2"]).items) == 2


LONG = "x" * 1025


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"k": np.array([[0]], np.int32)}, "k must lie between 1 and 25; got 0"),
        ({"k": np.array([[-7]], np.int32)}, "k must lie between 1 and 25; got -7"),
        ({"k": np.array([[26]], np.int32)}, "k must lie between 1 and 25; got 26"),
        ({"k": np.array([[3]], np.int64)}, "data-type"),
        ({"k": np.array([[3, 4]], np.int32)}, "shape"),
        ({"k": np.array([3], np.int32)}, "shape"),
        ({"k": np.array([[3], [4]], np.int32)}, "batch"),
        ({"user_id": np.array([[7]], np.int64)}, "data-type"),
        ({"user_id": np.zeros((0, 1), np.object_)}, "elements"),
        ({"user_id": text_row([""])}, "user_id is empty"),
        ({"user_id": text_row(["ж" * 1025])}, "user_id holds a text of 1,025 characters; at most 1,024 are allowed"),
        ({"user_id": text_row([LONG])}, "user_id holds a text of 1,025 bytes; at most 1,024 are allowed"),
        ({"user_id": np.array([[b"\xff"]], np.object_)}, "user_id is not UTF-8 text"),
        ({"candidates": text_row([LONG])}, "candidates holds a text of 1,025 bytes"),
        ({"candidates": text_row(["i1"] * 10_001)}, "candidates has 10,001 columns; at most 10,000 are allowed"),
        ({"filters": text_row(["colour=red"])}, "no column 'colour' to filter by; it has: decade, genres"),
        ({"filters": text_row(["War"])}, "filters must read column=value or column!=value; got 'War'"),
        ({"filters": text_row(["=War"])}, "filters must read"),
        ({"filters": text_row(["a=b"] * 65)}, "filters has 65 columns; at most 64"),
        ({"context": text_row(["age=7"])}, "context has no column 'age'; known: gender"),
        ({"context": text_row(["user_id=u3"])}, "context has no column 'user_id'"),
        ({"context": text_row(["female"])}, "context must read column=value; got 'female'"),
        ({"context_vector": np.ones((1, 4), np.float32)}, "this model reads no context_vector; train one with data."),
        ({"colour": text_row(["red"])}, "colour"),
        ({"exclude_seen": np.array([[1]], np.int32)}, "data-type"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else None,
)
def test_what_cannot_be_answered_is_said_in_one_line(
    served: Supervisor, inputs: dict[str, np.ndarray], message: str
) -> None:
    with pytest.raises(DeployError, match="gave no answer") as caught:
        raw(served, **inputs)
    said = caught.value.got or ""
    assert message in said
    assert "\n" not in said
    assert ".py" not in said
    assert "/" not in said.replace("and/or", "")


def test_the_answer_says_where_it_comes_from(client: Client, world: World, bundles: tuple[Path, Path]) -> None:
    answer = client.recommend("u3", 1)
    assert answer.alias == "champion"
    assert answer.data_cutoff == world.training_set.spec.data_cutoff
    assert answer.embedding_address == Bundle.load(bundles[0]).read_json("embedding.json")["address"]


def test_bad_arguments_never_leave_the_client(client: Client) -> None:
    for bad in ({"candidates": "i3"}, {"filters": "genres=War"}):
        with pytest.raises(UsageError, match="must be a"):
            client.recommend("u3", **bad)  # type: ignore[arg-type]


def test_what_is_meant_is_converted(client: Client) -> None:
    expected = client.recommend("7", 5, candidates=["i3", "7"], filters={"decade": ["1970s"]}).items
    same = {"candidates": (" i3 ", 7.0), "filters": {"decade": [" 1970s"]}}
    for user, k in ((7, "5"), (" 7 ", 5.0), (np.int64(7), np.int32(5))):
        assert client.recommend(user, k, **same).items == expected  # type: ignore[arg-type]
    known = client.recommend("u3", 5)
    assert client.recommend(" u3 ", 5) == known
    assert known.liked_titles


@pytest.mark.parametrize(
    ("user", "k", "wishes", "message"),
    [
        (None, 5, {}, "user_id holds what is no text"),
        (b"u3", 5, {}, "user_id holds what is no text"),
        (7.5, 5, {}, "user_id holds what is no text"),
        ("  ", 5, {}, "The user id is empty"),
        ("u3", 3.5, {}, "k must be a whole number"),
        ("u3", "many", {}, "k must be a whole number"),
        ("u3", True, {}, "k must be a whole number"),
        ("u3", None, {}, "k must be a whole number"),
        ("u3", float("nan"), {}, "k must be a whole number"),
        ("u3", 5, {"candidates": [None]}, "candidates holds what is no text"),
        ("u3", 5, {"candidates": 7}, "candidates must be a list"),
        ("u3", 5, {"filters": {"decade": None}}, r"filters\['decade'\] holds what is no text"),
        ("u3", 5, {"filters": {"decade": ["1970s", None]}}, "holds what is no text"),
        ("u3", 5, {"filters": 7}, "filters must be a mapping"),
        ("u3", 5, {"context": {"gender": None}}, r"context\['gender'\] holds what is no text"),
        ("u3", 5, {"context": "gender=F"}, "context must be a mapping"),
    ],
)
def test_what_cannot_be_meant_is_refused(client: Client, user: Any, k: Any, wishes: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        client.recommend(user, k, **wishes)
