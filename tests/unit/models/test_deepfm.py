"""DeepFM against numbers worked out by hand, and its exact split into a user and an item half."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lorefuse.config import DeepFMConfig
from lorefuse.core.errors import ArtifactError, UsageError
from lorefuse.models.build import build_ranker, load_ranker, save_ranker
from lorefuse.models.deepfm import DeepFM
from lorefuse.models.layers import FusedEmbedding, IdDropout, NumericScaler, unit_length
from lorefuse.training_set.spec import CategoricalField, FeatureSpec, InterestFacet, MultiField
from tests.helpers.knowledge import blocks

SPEC = FeatureSpec(
    user_fields=(CategoricalField(name="user_id", size=7), CategoricalField(name="gender", size=3)),
    item_fields=(CategoricalField(name="item_id", size=9), CategoricalField(name="decade", size=4)),
    item_multi_fields=(MultiField(name="genres", size=6, width=3),),
    user_numeric=("count", "mean"),
    item_numeric=("prior",),
    interest=(
        InterestFacet(name="liked_text", against="item_text", dim=4),
        InterestFacet(name="liked_graph", against="item_graph", dim=5),
    ),
    knowledge=blocks(text=4, graph=5),
)
BARE = FeatureSpec(
    user_fields=(CategoricalField(name="user_id", size=3),), item_fields=(CategoricalField(name="item_id", size=3),)
)


def user_inputs(num_rows: int, spec: FeatureSpec = SPEC, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    inputs = {"user_fields": torch.randint(0, 3, (num_rows, len(spec.user_fields)), generator=generator)}
    if spec.user_numeric:
        inputs["user_numeric"] = torch.randn(num_rows, len(spec.user_numeric), generator=generator)
        inputs["user_interest"] = torch.randn(num_rows, 9, generator=generator)
    return inputs


def item_inputs(num_rows: int, spec: FeatureSpec = SPEC, seed: int = 1) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    inputs = {"item_fields": torch.randint(0, 3, (num_rows, len(spec.item_fields)), generator=generator)}
    if spec.item_numeric:
        inputs["item_multi"] = torch.randint(0, 6, (num_rows, 3), generator=generator)
        inputs["item_numeric"] = torch.randn(num_rows, 1, generator=generator)
        inputs["item_text"] = torch.randn(num_rows, 4, generator=generator)
        inputs["item_graph"] = torch.randn(num_rows, 5, generator=generator)
    return inputs


def shaken(spec: FeatureSpec, **keywords: object) -> DeepFM:
    """A DeepFM whose weights are all well away from zero, in evaluation mode."""
    model = DeepFM(spec, **keywords).eval()  # type: ignore[arg-type]
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number)))
    return model


def test_scores_by_hand() -> None:
    model = DeepFM(BARE, embedding_dim=2, hidden_dims=(1,), dropout=0.0).eval()
    with torch.no_grad():
        model.user_embedding.table.copy_(torch.tensor([[0.0, 0, 0], [0.5, 1, 2], [0, 0, 0]]))
        model.item_embedding.table.copy_(torch.tensor([[0.0, 0, 0], [0, 0, 0], [0.25, 3, -1]]))
        model.bias.fill_(0.125)
        model.first.weight.copy_(torch.tensor([[1.0, 1, 1, 1]]))
        model.first.bias.fill_(-4)
        model.rest[-1].weight.fill_(2)
        model.rest[-1].bias.fill_(0.5)
        logit = model(user_fields=torch.tensor([[1]]), item_fields=torch.tensor([[2]]))
    # linear .5 + .25 + .125; FM 1·3 + 2·(−1) = 1; deep 2·relu(1+2+3−1−4) + .5 = 2.5
    assert logit.item() == pytest.approx(0.875 + 1 + 2.5)


@pytest.mark.parametrize("spec", [SPEC, BARE], ids=["full", "ids only"])
def test_every_pair_scores_as_row_by_row(spec: FeatureSpec) -> None:
    model, users, items = shaken(spec), user_inputs(3, spec), item_inputs(5, spec)
    with torch.no_grad():
        every = model.cross_all(model.encode_user(**users), model.encode_item(**items))
        for row in range(3):
            repeated = {name: value[row : row + 1].expand(5, -1) for name, value in users.items()}
            torch.testing.assert_close(every[row], model(**repeated, **items), atol=1e-5, rtol=1e-5)


def test_order_of_rows_does_not_matter() -> None:
    model, order = shaken(SPEC), torch.tensor([3, 1, 0, 2])
    inputs = {**user_inputs(4), **item_inputs(4)}
    with torch.no_grad():
        shuffled = model(**{name: value[order] for name, value in inputs.items()})
        torch.testing.assert_close(model(**inputs)[order], shuffled)


def test_gradient_reaches_ids_text_graph_and_interest() -> None:
    model = shaken(SPEC, id_dropout=0.0)
    inputs = {**user_inputs(6), **item_inputs(6)}
    floats = [name for name, value in inputs.items() if value.is_floating_point()]
    for name in floats:
        inputs[name].requires_grad_()
    model(**inputs).sum().backward()
    assert all(inputs[name].grad.abs().sum() > 0 for name in floats)
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.parameters())


def test_unseen_item_scores_from_its_knowledge() -> None:
    model, items = shaken(SPEC), item_inputs(2)
    items["item_fields"].zero_()
    items = {name: value[:1].repeat(2, 1) for name, value in items.items()}
    users = {name: value[:1].repeat(2, 1) for name, value in user_inputs(2).items()}
    items["item_text"][1] = -items["item_text"][1]
    with torch.no_grad():
        score = model.to_score(model(**users, **items))
    assert score.isfinite().all()
    assert score[0] != score[1]


def test_id_dropout_puts_the_unseen_index_in_place_of_some_ids() -> None:
    layer, fields = IdDropout(0.5), torch.tensor([[3, 2]]).repeat(64, 1)
    torch.manual_seed(0)
    dropped = layer.train()(fields)
    assert set(dropped[:, 0].tolist()) == {0, 3}
    assert dropped[:, 1].tolist() == [2] * 64
    assert (layer.eval()(fields) == fields).all()


def test_padding_of_a_multi_field_does_not_count() -> None:
    layer = FusedEmbedding([], [MultiField(name="genres", size=4, width=3)], embedding_dim=1)
    with torch.no_grad():
        layer.table.copy_(torch.tensor([[9.0, 9], [1, 10], [2, 20], [3, 30]]))
        linear, vectors = layer(torch.zeros(2, 0, dtype=torch.long), torch.tensor([[1, 3, 0], [0, 0, 0]]))
    assert linear.tolist() == [2.0, 0.0]
    assert vectors.flatten().tolist() == [20.0, 0.0]


def test_scaler_keeps_a_constant_column_finite() -> None:
    scaler = NumericScaler(2)
    scaler.fit(torch.tensor([[1.0, 5.0], [3.0, 5.0]]))
    assert scaler(torch.tensor([[3.0, 5.0]])).tolist() == [[1.0, 0.0]]


def test_unit_length_leaves_zeros() -> None:
    assert unit_length(torch.tensor([[3.0, 4.0], [0.0, 0.0]])).tolist() == [
        [pytest.approx(0.6), pytest.approx(0.8)],
        [0, 0],
    ]


def test_missing_input_is_named() -> None:
    with pytest.raises(UsageError, match="item_text"):
        shaken(SPEC)(**user_inputs(1), **{k: v for k, v in item_inputs(1).items() if k != "item_text"})


def test_same_seed_same_weights_and_the_global_generator_is_left_alone() -> None:
    before = torch.random.get_rng_state()
    first, second = (build_ranker(DeepFMConfig(), SPEC, seed=3).state_dict() for _ in range(2))
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_saved_and_loaded_scores_are_the_same(tmp_path: Path) -> None:
    model, inputs = build_ranker(DeepFMConfig(), SPEC).eval(), {**user_inputs(4), **item_inputs(4)}
    save_ranker(model, DeepFMConfig(), tmp_path)
    assert torch.equal(model(**inputs), load_ranker(tmp_path)(**inputs))


def test_truncated_weights_are_refused(tmp_path: Path) -> None:
    save_ranker(build_ranker(DeepFMConfig(), SPEC), DeepFMConfig(), tmp_path)
    weights_path = tmp_path / "model.safetensors"
    weights_path.write_bytes(weights_path.read_bytes()[:-100])
    with pytest.raises(ArtifactError, match="no complete ranker"):
        load_ranker(tmp_path)
