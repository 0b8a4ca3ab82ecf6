"""One signature makes config.pbtxt, the dtypes on the wire and the checks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lorefuse.core.errors import ArtifactError, UsageError
from lorefuse.export.config_pbtxt import ensemble_config, model_config, read_config, write_config
from lorefuse.export.model_repository import ModelRepository
from lorefuse.export.signature import PART_MODELS, ModelSignature, ServingSignature
from lorefuse.export.wire import text_array, to_infer_input
from lorefuse.training_set.spec import FeatureSpec
from tests.unit.models.test_deepfm import BARE, SPEC, item_inputs, user_inputs

SIGNATURES = ServingSignature.of(SPEC)


def rows(num_rows: int = 3) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in {**user_inputs(num_rows), **item_inputs(num_rows)}.items()}


def test_tensors_have_the_widths_of_the_spec() -> None:
    dims = {tensor.name: (tensor.dtype, tensor.dims) for tensor in SIGNATURES.ranker.inputs}
    assert dims == {
        "user_fields": ("int64", (2,)),
        "user_numeric": ("float32", (2,)),
        "user_interest": ("float32", (9,)),
        "item_fields": ("int64", (2,)),
        "item_multi": ("int64", (3,)),
        "item_numeric": ("float32", (1,)),
        "item_text": ("float32", (4,)),
        "item_graph": ("float32", (5,)),
    }
    ids = ServingSignature.of(BARE)
    assert [tensor.name for tensor in ids.ranker.inputs] == ["user_fields", "item_fields"]


def test_no_tensor_is_as_wide_as_the_catalogue() -> None:
    ranked = SIGNATURES.catalogue_ranker
    assert {tensor.name: tensor.dims for tensor in ranked.outputs} == {"catalogue_row": (-1,), "score": (-1,)}
    assert ranked.inputs[-1].dims == (-1,)


def test_fitting_inputs_pass() -> None:
    SIGNATURES.ranker.check_inputs(rows())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"item_text": None}, "missing: item_text"),
        ({"colour": np.zeros((3, 1))}, "unknown: colour"),
        ({"item_text": np.zeros((2, 4), np.float32)}, "same number of rows"),
        ({"item_text": np.zeros((3, 4), np.float64)}, "float64"),
        ({"item_text": np.zeros((3, 5), np.float32)}, r"expected: float32 \(rows, 4\)"),
        ({"item_text": np.zeros(3, np.float32)}, r"got: float32 \(3,\)"),
    ],
)
def test_every_misfit_is_named(change: dict[str, np.ndarray | None], message: str) -> None:
    arrays = {name: value for name, value in {**rows(), **change}.items() if value is not None}
    with pytest.raises(UsageError, match=message):
        SIGNATURES.ranker.check_inputs(arrays)


def test_too_large_a_batch_is_refused() -> None:
    with pytest.raises(UsageError, match="1 to 4096"):
        SIGNATURES.ranker.check_inputs(rows(4097))


def test_config_survives_its_text(tmp_path: Path) -> None:
    config = model_config(SIGNATURES.ranker, [2, 1])
    write_config(tmp_path / "config.pbtxt", config)
    assert read_config(tmp_path / "config.pbtxt") == config
    assert config.backend == "onnxruntime"
    assert list(config.version_policy.specific.versions) == [1, 2]
    assert config.output[0].HasField("reshape")
    assert "GPU" not in (tmp_path / "config.pbtxt").read_text()
    assert "KIND_GPU" in str(model_config(SIGNATURES.ranker, [1], gpu=True))


@pytest.mark.parametrize("signature", [SIGNATURES.ranker, SIGNATURES.catalogue_ranker, SIGNATURES.direct])
def test_no_queue_has_a_bound_or_a_timeout(signature: ModelSignature) -> None:
    config = model_config(signature, [1])
    assert config.HasField("dynamic_batching")
    # With either, Triton's batcher sleeps through the moment an instance becomes free, up to half a second.
    assert not config.dynamic_batching.HasField("default_queue_policy")
    assert not config.dynamic_batching.priority_levels


def test_direct_alone_can_do_without_batches() -> None:
    for signature in SIGNATURES.models:
        config = model_config(signature, [1], batches=False)
        assert config.HasField("dynamic_batching") == (signature.name in ("ranker", "catalogue_ranker"))


def test_a_lone_client_meets_the_first_instance(tmp_path: Path) -> None:
    write_config(tmp_path / "config.pbtxt", model_config(SIGNATURES.direct, [1]))
    first, spare = read_config(tmp_path / "config.pbtxt").instance_group
    assert (first.count, spare.count, first.kind) == (1, 1, spare.kind)
    assert 0 < 1000 * first.rate_limiter.priority < spare.rate_limiter.priority


def test_an_unchanged_config_is_not_written_again(tmp_path: Path) -> None:
    path = tmp_path / "config.pbtxt"
    write_config(path, model_config(SIGNATURES.answer, [1]))
    before = path.stat().st_mtime_ns, path.stat().st_ino
    write_config(path, model_config(SIGNATURES.answer, [1]))
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == before


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        ({}, ["direct"]),
        ({"gpu": True}, ["features", "catalogue_ranker", "answer"]),
        ({"gpu": True, "retrieves": True}, ["features", "retrieve", "answer"]),
    ],
    ids=["cpu", "gpu", "gpu, past one graph"],
)
def test_the_ensemble_pins_one_version_and_every_tensor_has_a_source(asked: dict[str, bool], names: list[str]) -> None:
    config = ensemble_config(SIGNATURES, 7, **asked)
    steps = config.ensemble_scheduling.step
    assert [(step.model_name, step.model_version) for step in steps] == [(name, 7) for name in names]
    there = {tensor.name for tensor in config.input}
    for step in steps:
        assert set(step.input_map.values()) <= there
        there |= set(step.output_map.values())
    assert {tensor.name for tensor in config.output} <= there
    assert {tensor.name for tensor in config.input if tensor.optional} == {
        tensor.name for tensor in SIGNATURES.recommend.inputs[1:]
    }


@pytest.fixture
def repository(tmp_path: Path) -> ModelRepository:
    return ModelRepository(tmp_path)


def test_a_part_that_no_version_has_is_not_configured(repository: ModelRepository, tmp_path: Path) -> None:
    """One version ranks by a graph, the next retrieves: each part is configured for those that have it."""
    for number, missing in ((1, "retrieve"), (2, "catalogue_ranker")):
        write_version(tmp_path, number, SPEC, missing)
    for versions, unconfigured in (([1], "retrieve"), ([1, 2], None), ([2], "catalogue_ranker")):
        repository.configure_parts(versions, versions[-1])
        assert repository.configured() == [name for name in PART_MODELS if name != unconfigured]
    assert list(read_config(tmp_path / "retrieve" / "config.pbtxt").version_policy.specific.versions) == [2]
    assert list(read_config(tmp_path / "ranker" / "config.pbtxt").version_policy.specific.versions) == [2]


def test_a_part_serves_the_versions_whose_tensors_are_equal(repository: ModelRepository, tmp_path: Path) -> None:
    """And `direct` all of them: what it is asked does not depend on the model."""
    wider = SPEC.model_copy(update={"user_numeric": ("a", "b", "c")})
    for number, spec in ((1, SPEC), (2, wider), (3, SPEC)):
        write_version(tmp_path, number, spec)
    assert repository.signatures(2) == ServingSignature.of(wider)
    assert repository.differing_models(1, 3) == set()
    assert repository.differing_models(1, 2) == {"ranker", "catalogue_ranker", "retrieve", "features"}
    assert repository.differing_models(1, 4) is None, "an older release wrote no spec, or there is no such version"
    for like, served in ((3, [1, 3]), (2, [2])):
        repository.configure_parts([1, 2, 3], like)
        for name in ("ranker", "features"):
            assert list(read_config(tmp_path / name / "config.pbtxt").version_policy.specific.versions) == served
        assert repository.loaded_versions == [1, 2, 3]


def test_a_part_that_only_a_version_with_other_tensors_has_is_not_configured(
    repository: ModelRepository, tmp_path: Path
) -> None:
    """From a family that retrieves to another that ranks by one graph, and back."""
    write_version(tmp_path, 1, SPEC, "catalogue_ranker")
    write_version(tmp_path, 2, SPEC.model_copy(update={"user_numeric": ("a", "b", "c")}), "retrieve")
    for like, unconfigured in ((1, "catalogue_ranker"), (2, "retrieve"), (1, "catalogue_ranker")):
        repository.configure_parts([1, 2], like)
        assert repository.configured() == [name for name in PART_MODELS if name != unconfigured]
        for name in repository.configured():
            assert list(read_config(tmp_path / name / "config.pbtxt").version_policy.specific.versions)


def test_a_version_says_whether_waiting_requests_are_answered_together(
    repository: ModelRepository, tmp_path: Path
) -> None:
    """One of before says nothing, and is batched as it was."""
    for number, facts in ((1, {"dynamic_batching": False}), (2, {"dynamic_batching": True}), (3, {})):
        write_version(tmp_path, number, SPEC)
        (tmp_path / "direct" / str(number) / "features.json").write_text(json.dumps(facts))
    for like in (1, 2, 3):
        repository.configure_parts([1, 2, 3], like)
        assert read_config(tmp_path / "direct" / "config.pbtxt").HasField("dynamic_batching") == (like != 1)
        assert read_config(tmp_path / "ranker" / "config.pbtxt").HasField("dynamic_batching")


def write_version(path: Path, number: int, spec: FeatureSpec, missing: str = "") -> None:
    for name in {*PART_MODELS} - {missing}:
        (path / name / str(number)).mkdir(parents=True)
    spec.save(path / "ranker" / str(number))


@pytest.mark.parametrize("text", ["name: [", "\x00\xff", None])
def test_a_broken_config_is_refused(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "config.pbtxt").write_bytes(text.encode("latin-1"))
    with pytest.raises(ArtifactError, match="not a model config"):
        read_config(tmp_path / "config.pbtxt")


def test_wire_refuses_what_no_model_takes() -> None:
    assert to_infer_input("user_id", text_array("ü")).datatype() == "BYTES"
    with pytest.raises(UsageError, match="float64"):
        to_infer_input("score", np.zeros((1, 1)))


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("lorefuse.client", ("torch", "pandas", "mlflow", "grpc")),
        ("lorefuse.export.model_repository", ("torch", "onnx")),
    ],
)
def test_what_asks_and_what_deploys_is_light(module: str, heavy: tuple[str, ...]) -> None:
    code = f"import sys, {module}; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
