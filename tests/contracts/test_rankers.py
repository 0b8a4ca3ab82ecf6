"""What every family must do, with every way of fusing knowledge: one suite for all."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from lorefuse.config import (
    DCNV2Config,
    DeepFMConfig,
    DINConfig,
    FinalMLPConfig,
    FMConfig,
    LogisticRegressionConfig,
    ModelConfig,
    MultiTaskConfig,
    TrainingConfig,
    WideDeepConfig,
)
from lorefuse.core.schema import Split
from lorefuse.export.candidates import export_candidates
from lorefuse.export.onnx import (
    CatalogueGraph,
    export_catalogue_ranker,
    export_ranker,
)
from lorefuse.export.parity import check_candidates
from lorefuse.export.session import open_session
from lorefuse.features.arms import with_knowledge
from lorefuse.features.history import with_history
from lorefuse.models.build import FAMILIES, build_ranker, load_ranker, save_ranker
from lorefuse.models.fusion import FUSIONS
from lorefuse.models.ranker import Ranker, as_inputs
from lorefuse.training.train import train
from lorefuse.training_set.arrays import TrainingSet
from tests.helpers.training_rows import make_training_set, small_config

CONFIGS: dict[str, ModelConfig] = {
    "logistic_regression": LogisticRegressionConfig(),
    "fm": FMConfig(embedding_dim=4),
    "wide_deep": WideDeepConfig(embedding_dim=4, hidden_dims=(8, 4)),
    "deepfm": DeepFMConfig(embedding_dim=4, hidden_dims=(8, 4)),
    "dcn_v2": DCNV2Config(embedding_dim=4, hidden_dims=(8, 4)),
    "dcn_v2 low rank": DCNV2Config(embedding_dim=4, hidden_dims=(8, 4), cross_rank=2),
    "finalmlp": FinalMLPConfig(embedding_dim=4, hidden_dims=(8, 4), num_heads=2),
    "din": DINConfig(embedding_dim=4, hidden_dims=(8, 4), history_length=5, attention_dim=6),
    "multi_task shared_bottom": MultiTaskConfig(embedding_dim=4, structure="shared_bottom", expert_dim=8),
    "multi_task mmoe": MultiTaskConfig(embedding_dim=4, expert_dim=8, tasks=("value", "click")),
    "multi_task ple": MultiTaskConfig(embedding_dim=4, structure="ple", expert_dim=8, num_experts=2),
    "multi_task esmm": MultiTaskConfig(embedding_dim=4, structure="esmm", expert_dim=8),
}
CONFIGS |= {f"deepfm {name}": DeepFMConfig(embedding_dim=4, hidden_dims=(8,), fusion=name) for name in FUSIONS}  # type: ignore[arg-type]
CONFIGS |= {
    f"din {name}": CONFIGS["din"].model_copy(update={"fusion": name}) for name in ("concat", "attention", "gated")
}
CONFIGS |= {
    "deepfm text init": DeepFMConfig(embedding_dim=4, hidden_dims=(8,), init="text"),
    "deepfm alignment": DeepFMConfig(embedding_dim=4, hidden_dims=(8,), alignment_weight=0.1),
}
every = pytest.mark.parametrize("name", CONFIGS)


@functools.cache
def rows() -> TrainingSet:
    return make_training_set(sound_dim=2)


def prepared(name: str, training_set: TrainingSet | None = None) -> tuple[Ranker, TrainingSet, ModelConfig]:
    """A ranker with its constants fitted and its weights well away from zero, in evaluation mode."""
    config = CONFIGS[name]
    training_set = with_history(training_set or rows(), getattr(config, "history_length", 0))
    ranker = build_ranker(config, training_set.spec)
    ranker.prepare(training_set)
    with torch.no_grad():
        for number, parameter in enumerate(ranker.parameters()):
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number)))
    return ranker.eval(), training_set, config


def some(training_set: TrainingSet, count: int = 7) -> dict[str, Tensor]:
    return as_inputs(training_set.inputs(training_set.rows_of(Split.TEST)[:count]))


def test_every_family_is_in_the_suite() -> None:
    assert {config.family for config in CONFIGS.values()} == set(FAMILIES)


@every
def test_shape_and_order(name: str) -> None:
    ranker, training_set, _ = prepared(name)
    inputs, order = some(training_set), torch.tensor([3, 1, 6, 0, 2, 5, 4])
    with torch.no_grad():
        logits = ranker(**inputs)
        shuffled = ranker(**{key: value[order] for key, value in inputs.items()})
    assert logits.shape == (7,)
    assert logits.isfinite().all()
    torch.testing.assert_close(logits[order], shuffled, atol=1e-6, rtol=1e-5)


@every
def test_every_pair_scores_as_row_by_row(name: str) -> None:
    ranker, training_set, _ = prepared(name)
    inputs = some(training_set)
    users = {key: inputs[key][:3] for key in training_set.spec.user_tensors}
    items = {key: inputs[key] for key in training_set.spec.item_tensors}
    with torch.no_grad():
        pairs = ranker.cross_all(ranker.encode_user(**users), ranker.encode_item(**items))
        for row in range(3):
            repeated = {key: value[row : row + 1].expand(7, -1) for key, value in users.items()}
            torch.testing.assert_close(pairs[row], ranker(**repeated, **items), atol=1e-5, rtol=1e-5)


@every
def test_gradient_reaches_the_knowledge(name: str) -> None:
    ranker, training_set, _ = prepared(name)
    inputs = some(training_set)
    for key in ("item_text", "item_graph"):
        inputs[key].requires_grad_()
    ranker(**inputs).sum().backward()
    assert all(float(inputs[key].grad.abs().sum()) > 0 for key in ("item_text", "item_graph"))  # type: ignore[union-attr]


@every
def test_an_unseen_item_is_told_apart_by_its_knowledge(name: str) -> None:
    ranker, training_set, _ = prepared(name)
    inputs = {key: value[:1].repeat(2, 1) for key, value in some(training_set).items()}
    inputs["item_fields"][:, 0] = 0
    inputs["user_fields"][:, 0] = 0
    inputs["item_text"][1] = -inputs["item_text"][1]
    with torch.no_grad():
        score = ranker.to_score(ranker(**inputs))
    assert score.isfinite().all()
    assert score[0] != score[1]


@every
def test_no_knowledge_at_all(name: str) -> None:
    bare = with_knowledge(rows(), "none", small_config().features)
    ranker, training_set, _ = prepared(name, bare)
    with torch.no_grad():
        assert ranker(**some(training_set)).isfinite().all()


@every
def test_saved_and_loaded(name: str, tmp_path: Path) -> None:
    ranker, training_set, config = prepared(name)
    save_ranker(ranker, config, tmp_path)
    loaded, inputs = load_ranker(tmp_path), some(training_set)
    with torch.no_grad():
        assert torch.equal(loaded(**inputs), ranker(**inputs))


@every
def test_training_lowers_the_loss(name: str) -> None:
    config = TrainingConfig(batch_size=64, learning_rate=0.01, max_epochs=3, num_threads=1, embedding_l2=0.0)
    trained = train(rows(), CONFIGS[name], config)
    losses = [epoch["train_loss"] for epoch in trained.history.epochs]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize(
    "name",
    ["logistic_regression", "fm", "wide_deep", "dcn_v2", "finalmlp", "din", "multi_task ple", "multi_task esmm",
     "deepfm concat", "deepfm attention", "deepfm gated", "deepfm null_space", "deepfm weighted"],
)  # fmt: skip
def test_exported_graphs_agree_with_torch(name: str, tmp_path: Path) -> None:
    ranker, training_set, _ = prepared(name)
    inputs = some(training_set)
    export_ranker(ranker, inputs, tmp_path / "ranker.onnx")
    (score,) = open_session(tmp_path / "ranker.onnx").run(None, {key: value.numpy() for key, value in inputs.items()})
    with torch.no_grad():
        np.testing.assert_allclose(score, ranker.to_score(ranker(**inputs)).numpy(), atol=1e-5)
    paths = tmp_path / "side.onnx", tmp_path / "candidates.onnx"
    export_candidates(ranker, inputs, *paths)
    check_candidates(*paths, ranker, {key: value.numpy() for key, value in inputs.items()})
    tables = training_set.item_tables()
    tables["item_numeric"] = training_set.item_numeric_now
    catalogue = {key: torch.from_numpy(np.ascontiguousarray(table)) for key, table in tables.items()}
    graph = CatalogueGraph(ranker, catalogue, 5).eval()
    users = {key: inputs[key][:3] for key in training_set.spec.user_tensors}
    users["exclude_rows"] = torch.tensor([[-1, -1], [0, 1], [3, -1]])
    export_catalogue_ranker(graph, users, tmp_path / "catalogue.onnx")
    for count in (1, 3):
        given = {key: value[:count].numpy() for key, value in users.items()}
        found, scores = open_session(tmp_path / "catalogue.onnx").run(None, given)
        with torch.no_grad():
            wanted, wanted_scores = graph(*(torch.from_numpy(given[key]) for key in graph.input_names))
        assert (found == wanted.numpy()).all()
        np.testing.assert_allclose(scores, wanted_scores.numpy(), atol=1e-5)
