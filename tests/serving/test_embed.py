"""The model `embed`: an item that nobody has seen, scored from its words in one call, held to torch."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from lorefuse.atomic import sha256_json, write_json
from lorefuse.client import Client
from lorefuse.config import EmbeddingConfig
from lorefuse.deploy.control import Control
from lorefuse.deploy.deploy import deploy
from lorefuse.deploy.new_item import new_item_tensors
from lorefuse.deploy.supervisor import Supervisor
from lorefuse.embedding.embed import embed_new_item
from lorefuse.embedding.reduce import Reducer
from lorefuse.embedding.space import space_of
from lorefuse.errors import DeployError
from lorefuse.export.repository import companions
from lorefuse.export.wire import text_row
from lorefuse.models.ranker import Ranker
from tests.serving.synthetic import TEXT_DIM, World, make_bundle
from tests.unit.embedding.conftest import save_encoder

DIM = 16
TEXTS = ["w1 w2 w3", "w7", "w59 w58 out of vocabulary w3 " * 12, "ünïcode w4 🎬"]


@pytest.fixture(scope="module")
def speaking(world: World, tmp_path_factory: pytest.TempPathFactory) -> World:
    """The world with a small encoder of its own, whose reducer fits it."""
    path = tmp_path_factory.mktemp("speaking")
    embedding = EmbeddingConfig(encoder=str(save_encoder(path / "encoder", "bert")), reduce_dim=TEXT_DIM, max_tokens=32)
    for name in ("dataset", "feature_data"):
        (path / name).symlink_to(world.path / name)
    shutil.copytree(world.path / "vectors", path / "vectors")
    rng = np.random.default_rng(5)
    Reducer(
        mean=rng.normal(size=DIM).astype(np.float32),
        components=rng.normal(size=(DIM, TEXT_DIM)).astype(np.float32),
        scale=np.ones(1, np.float32),
    ).save(path / "vectors")
    (path / "embeddings").mkdir()
    address = sha256_json(space_of(embedding))
    write_json(path / "embeddings" / "embedding.json", {"address": address, "dim": DIM})
    serving = world.config.serving.model_copy(update={"embed": True})
    config = world.config.model_copy(update={"embedding": embedding, "serving": serving})
    return dataclasses.replace(world, path=path, config=config)


@pytest.fixture(scope="module")
def bundle_path(speaking: World, rankers: tuple[Ranker, Ranker]) -> Path:
    return make_bundle(speaking, rankers[0], speaking.path / "bundle")


@pytest.fixture(scope="module")
def server(new_supervisor: Callable[[], Supervisor], bundle_path: Path, world: World) -> Supervisor:
    supervisor = new_supervisor()
    deploy(bundle_path, world.store_path, 1, supervisor=supervisor)
    Control(supervisor.url).load("embed")
    return supervisor


@pytest.mark.triton
def test_words_become_the_vector_and_the_score_of_torch(
    server: Supervisor, speaking: World, bundle_path: Path, rankers: tuple[Ranker, Ranker]
) -> None:
    with Client(server.url) as client:
        for text in TEXTS:
            for user in ("u3", None):
                got = client.score_text(text, user)
                expected = embed_new_item(text, speaking.config.embedding)[0]
                cosine = got.vector @ expected / np.linalg.norm(got.vector) / np.linalg.norm(expected)
                assert 1 - cosine <= 1e-4
                inputs = {**client.user_tensors(user or "nobody"), **new_item_tensors(text, bundle_path)}
                with torch.no_grad():
                    rows = {name: torch.from_numpy(array.copy()) for name, array in inputs.items()}
                    score = rankers[0].to_score(rankers[0](**rows)).item()
                assert got.score == pytest.approx(score, abs=1e-4)
        assert got.embedding_address == sha256_json(space_of(speaking.config.embedding))
        assert (got.model_version, got.alias) == ("1", "champion")
        assert client.recommend("u3").embedding_address == got.embedding_address


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
    assert companions(server.repository_path, 1) == ["embed"]
    deploy(bundles[0], world.store_path, 2, supervisor=server)
    assert companions(server.repository_path, 2) == []
    assert not (server.repository_path / "embed" / "config.pbtxt").exists()
    with Client(server.url) as client:
        assert client.recommend("u3").model_version == "2"
