"""Answers of a real Triton against torch and Feast's SDK."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from lorefuse.client import Client
from lorefuse.core.errors import ArtifactError, DeployError, UnreachableError, UsageError
from lorefuse.core.schema import View
from lorefuse.deploy import new_item
from lorefuse.deploy.control import Control
from lorefuse.deploy.supervisor import Supervisor
from lorefuse.export.bundle import Bundle
from lorefuse.export.config_pbtxt import CONFIG_FILE, ensemble_config, write_config
from lorefuse.export.wire import text_array
from lorefuse.feature_store.store import online_features
from lorefuse.models.ranker import Ranker
from tests.helpers.request_rows import text_row
from tests.helpers.synthetic_bundle import NUM_ITEMS, NUM_USERS, World


@torch.no_grad()
def brute_force(world: World, ranker: Ranker, user: dict[str, np.ndarray]) -> np.ndarray:
    """Score the whole catalogue for one user, row by row, in torch."""
    items = {name: torch.from_numpy(table) for name, table in world.training_set.item_tables().items()}
    users = {name: torch.from_numpy(value.copy()).expand(NUM_ITEMS, -1) for name, value in user.items()}
    return ranker.to_score(ranker(**users, **items)).numpy()


@pytest.mark.parametrize("user", ["u3", "u11"])
def test_recommendations_are_torchs(client: Client, world: World, rankers: tuple[Ranker, Ranker], user: str) -> None:
    scores = brute_force(world, rankers[0], client.user_tensors(user))
    ids = world.dataset.items()["item_id"].to_numpy()
    order = np.argsort(-scores, kind="stable")[:10]
    answer = client.recommend(user, 10, exclude_seen=False)
    assert [item.item_id for item in answer.items] == ids[order].tolist()
    assert np.abs(np.array([item.score for item in answer.items]) - scores[order]).max() <= 1e-5
    assert answer.model_version == "1"
    assert answer.data_cutoff == world.training_set.spec.data_cutoff


def test_scores_of_rows_are_torchs(client: Client, world: World, rankers: tuple[Ranker, Ranker]) -> None:
    rows = np.arange(200)
    inputs = dict(world.training_set.inputs(rows).items())
    with torch.no_grad():
        expected = rankers[0].to_score(rankers[0](**{k: torch.from_numpy(v) for k, v in inputs.items()})).numpy()
    got = client.score(inputs)
    assert got.dtype == np.float32
    assert np.abs(got - expected).max() <= 1e-5


def test_online_features_are_exactly_the_sdks(client: Client, world: World) -> None:
    users = [f"u{n}" for n in range(NUM_USERS)]
    spec = world.training_set.spec
    stats = online_features(world.store_path, View.USER_STATS, spec.user_numeric, users)
    interest = online_features(world.store_path, View.USER_INTEREST, [f.name for f in spec.interest], users)
    attributes = online_features(world.store_path, View.USER_ATTRIBUTES, ["gender"], users)
    vocabulary = Bundle.load(world.path / "bundle0").read_json("vocabularies.json")
    for row, user in enumerate(users):
        tensors = client.user_tensors(user)
        expected = stats.loc[row, list(spec.user_numeric)].to_numpy(np.float32)
        assert (tensors["user_numeric"][0] == expected).all()
        blocks = [np.array(interest.loc[row, facet.name], np.float32) for facet in spec.interest]
        assert (tensors["user_interest"][0] == np.concatenate(blocks)).all()
        gender = vocabulary["gender"].index(attributes.loc[row, "gender"]) + 1
        assert tensors["user_fields"][0].tolist() == [vocabulary["user_id"].index(user) + 1, gender]


def test_somebody_unknown_is_a_newcomer(client: Client, bundles: tuple[Path, Path]) -> None:
    tensors = client.user_tensors("nobody")
    facts = Bundle.load(bundles[0]).read_json("serving.json")["user_without_history"]
    assert not tensors["user_fields"].any()
    assert not tensors["user_interest"].any()
    assert tensors["user_numeric"][0].tolist() == np.array(list(facts.values()), np.float32).tolist()
    answer = client.recommend("nobody")
    assert len(answer.items) == 10
    assert answer.liked_titles == []


@pytest.mark.parametrize("user", ["somebody new", "ünïcode 🎬"])
def test_somebody_unknown_gets_the_best_of_what_many_like(
    client: Client, world: World, rankers: tuple[Ranker, Ranker], user: str
) -> None:
    items = world.dataset.items()
    counts, means = world.training_set.item_numeric_now.astype(np.float64)[:, :2].T  # log1p of the count, shrunk mean
    pool = np.argsort(-np.expm1(counts) * means, kind="stable")[:15]
    scores = brute_force(world, rankers[0], client.user_tensors(user))
    expected = sorted(pool, key=lambda row: (-scores[row], row))[:10]
    got = client.recommend(user, 10)
    assert [item.item_id for item in got.items] == items["item_id"].to_numpy()[expected].tolist()
    assert [item.score for item in got.items] == pytest.approx(scores[expected], abs=1e-5)
    answer = client.recommend(user, 10, filters={"decade": "1980s"})
    decade = items.set_index("item_id")["decade"]
    assert {decade[item.item_id] for item in answer.items} == {"1980s"}
    assert len(answer.items) == 10


def test_the_front_for_gpus_gives_the_same_answers(
    served: Supervisor, client: Client, bundles: tuple[Path, Path]
) -> None:
    """Its three models run on the CPU here; the steps between them are those of a GPU machine."""
    name, control = "recommend_steps", Control(served.url, served.admin_key)
    folder_path = served.repository.path / name
    (folder_path / "1").mkdir(parents=True)
    write_config(folder_path / CONFIG_FILE, ensemble_config(Bundle.load(bundles[0]).signatures(), 1, name, gpu=True))
    control.load(name)
    filters = text_row(["genres=Drama"])
    for user in (*(f"u{n}" for n in range(NUM_USERS)), "nobody"):
        for more in ({}, {"filters": filters}):
            one, other = (control.infer(front, {"user_id": text_array(user), **more}) for front in ("recommend", name))
            assert one.keys() == other.keys()
            assert all((one[key] == other[key]).all() for key in one)
    control.unload(name)


def test_seen_items_stay_away_and_liked_ones_are_named(client: Client, world: World) -> None:
    history = online_features(world.store_path, View.USER_HISTORY, ["seen", "recent_liked"], ["u3"])
    seen, liked = set(history.loc[0, "seen"]), history.loc[0, "recent_liked"]
    title_of = dict(world.dataset.items()[["item_id", "title"]].to_numpy())
    answer = client.recommend("u3", 25)
    assert not seen & {item.item_id for item in answer.items}
    assert seen & {item.item_id for item in client.recommend("u3", 25, exclude_seen=False).items}
    assert answer.liked_titles == [title_of[item] for item in reversed(liked)]
    assert [item.title for item in answer.items] == [title_of[item.item_id] for item in answer.items]


def test_more_than_remains_gives_what_remains(client: Client, world: World) -> None:
    users = [f"u{n}" for n in range(NUM_USERS)]
    lengths = online_features(world.store_path, View.USER_HISTORY, ["seen"], users)["seen"].map(len).to_numpy()
    assert NUM_ITEMS - lengths.max() < 25, "somebody must leave fewer than k items"
    answer = client.recommend(users[lengths.argmax()], 25)
    assert len(answer.items) == NUM_ITEMS - lengths.max()
    assert all(np.isfinite(item.score) for item in answer.items)


@pytest.mark.parametrize(
    ("user", "k", "message"), [("u1", 0, "at least 1"), ("u1", 26, "between 1 and 25"), ("", 1, "empty")]
)
def test_bad_requests_get_one_clear_message(client: Client, user: str, k: int, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        client.recommend(user, k)
    assert "Traceback" not in str(caught.value)
    assert ".py" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"item_text": np.zeros((2, 4), np.int64)}, "item_text"),
        ({"item_text": np.zeros((2, 5), np.float32)}, "item_text"),
        ({"item_text": None}, "item_text"),
        ({"item_fields": np.full((2, 2), 10**9)}, "refused"),
    ],
    ids=["dtype", "width", "missing", "index out of range"],
)
def test_bad_tensors_get_one_clear_message(
    client: Client, world: World, change: dict[str, np.ndarray | None], message: str
) -> None:
    good = dict(world.training_set.inputs(np.arange(2)).items())
    inputs = {name: array for name, array in {**good, **change}.items() if array is not None}
    with pytest.raises(UsageError, match=message) as caught:
        client.score(inputs)
    assert "Traceback" not in str(caught.value)
    assert len(client.score(good)) == 2


def test_a_batch_of_users_is_padded(served: Supervisor, client: Client) -> None:
    users = np.concatenate([text_array("u3"), text_array("nobody")])
    got = Control(served.url).infer("recommend", {"user_id": users, "k": np.array([[2], [5]], np.int32)})
    assert got["item_id"].shape == (2, 5)
    assert [item.decode() for item in got["item_id"][0] if item] == [i.item_id for i in client.recommend("u3", 2).items]
    assert np.isneginf(got["score"][0, 2:]).all()
    assert [item.decode() for item in got["item_id"][1]] == [i.item_id for i in client.recommend("nobody", 5).items]


def test_text_that_is_not_utf8_is_refused(served: Supervisor) -> None:
    with pytest.raises(DeployError, match="not UTF-8"):
        Control(served.url).infer("recommend", {"user_id": np.array([[b"\xff\xfe"]], np.object_)})


def test_requests_at_once_get_their_own_answers(client: Client) -> None:
    users = [f"u{n}" for n in range(NUM_USERS)]
    alone = [client.recommend(user, 5) for user in users]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda user: client.recommend(user, 5), users * 5)) == alone * 5


def test_a_new_item_is_placed_by_its_text(
    client: Client,
    bundles: tuple[Path, Path],
    world: World,
    rankers: tuple[Ranker, Ranker],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    vector = np.random.default_rng(3).normal(size=(1, 384)).astype(np.float32)
    monkeypatch.setattr("lorefuse.embedding.embed.embed_texts", lambda texts, config: (vector, {}))
    monkeypatch.setattr(new_item, "_check_space", lambda bundle, vector: None)
    item = new_item.new_item_tensors("A film about a new film", bundles[0])
    assert tuple(item) == world.training_set.spec.item_tensors
    assert not item["item_fields"].any()
    place = new_item.standing(client, "u3", item, bundles[0])
    scores = brute_force(world, rankers[0], client.user_tensors("u3"))
    with torch.no_grad():
        inputs = {k: torch.from_numpy(v.copy()) for k, v in {**client.user_tensors("u3"), **item}.items()}
        expected = rankers[0].to_score(rankers[0](**inputs)).item()
    assert place.score == pytest.approx(expected, abs=1e-5)
    assert place.rank == 1 + (scores > place.score).sum()
    assert place.num_items == NUM_ITEMS
    with pytest.raises(UsageError, match="empty"):
        new_item.new_item_tensors("  ", bundles[0])


def test_another_encoder_is_refused(bundles: tuple[Path, Path]) -> None:
    with pytest.raises(ArtifactError, match="not the one this model was trained with"):
        new_item._check_space(Bundle.load(bundles[0]), np.zeros((1, 384), np.float32))


def test_nobody_there_is_said_at_once() -> None:
    with pytest.raises(UnreachableError, match="make up"):
        Client("127.0.0.1:9", timeout_s=2, max_retries=1).recommend("u1")


def test_a_deadline_is_kept(client: Client) -> None:
    short = Client(client.url, timeout_s=1e-4)
    with pytest.raises(UnreachableError, match="did not answer within"):
        short.recommend("u1")
    with pytest.raises(UsageError, match="positive"):
        Client(client.url, timeout_s=0)
