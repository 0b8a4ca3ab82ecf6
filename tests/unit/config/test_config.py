"""Presets: unknown keys, ranges, what cannot be read, and the way through kfp and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from lorefuse import config as config_module
from lorefuse.config import AutoConfig, FileSource, MovieLensSource, PipelineConfig, Section, load_config, parse_config
from lorefuse.core.errors import ConfigError
from lorefuse.steps import dump_config
from lorefuse.training.row_metrics import METRICS, SUBSETS

PRESETS = sorted((Path(__file__).resolve().parents[3] / "pipelines" / "configs").glob("*.yaml"))
SECTIONS = [value for value in vars(config_module).values() if isinstance(value, type) and issubclass(value, Section)]


def _nested(path: str, value: Any) -> dict[str, Any]:
    content = value
    for key in reversed(path.split(".")):
        content = {key: content}
    assert isinstance(content, dict)
    return content


def test_nothing_given_is_the_demo() -> None:
    assert parse_config({}) == PipelineConfig()
    assert isinstance(PipelineConfig().data.source, MovieLensSource)


@pytest.mark.parametrize("path", ["nmae", "trainning", "training.learnig_rate", "data.source.movielens_100k.grahp"])
def test_unknown_key(path: str) -> None:
    given_path = path.replace(".movielens_100k", "")
    content = _nested(given_path, 1)
    if given_path != path:
        content["data"]["source"]["kind"] = "movielens_100k"
    with pytest.raises(ConfigError) as caught:
        parse_config(content)
    assert f"{path}: unknown key; fix: " in str(caught.value)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("name", "No Spaces"),
        ("data.max_bad_share", 1.5),
        ("data.label.kind", "ordinal"),
        ("data.label.threshold", "high"),
        ("split.strategy", "random"),
        ("split.train_share", 0),
        ("split.train_share", 1),
        ("split.cold_item_share", 1),
        ("split.seed", -1),
        ("embedding.max_tokens", 4),
        ("embedding.pooling", "max"),
        ("embedding.reduce_dim", 0),
        ("embedding.num_threads", 0),
        ("knowledge.graph_dim", 0),
        ("knowledge.min_link_z", float("inf")),
        ("features.num_prior_folds", 1),
        ("model.hidden_dims", []),
        ("model.dropout", 1),
        ("model.embedding_dim", 2.5),
        ("training.learning_rate", 0),
        ("training.learning_rate", float("nan")),
        ("training.batch_size", 0),
        ("training.ema_decay", 1),
        ("tuning.num_trials", 0),
        ("evaluation.arms", []),
        ("evaluation.arms", ["real", "imagined"]),
        ("evaluation.num_bootstraps", 9),
        ("registry.model_name", ""),
        ("serving.max_k", 1001),
        ("serving.num_reference_rows", 7),
    ],
)
def test_value_out_of_range(path: str, value: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(_nested(path, value), origin="shop.yaml")
    said = str(caught.value)
    assert said.startswith("shop.yaml cannot be used.")
    assert f"  {path}" in said
    assert "expected: " in said
    assert "got: " in said


def test_all_mistakes_are_listed_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config({"training": {"batch_size": 0, "seeed": 1}, "serving": {"max_k": 0}})
    assert len(str(caught.value).splitlines()) == 4


def test_shares_must_leave_a_test_part() -> None:
    with pytest.raises(ConfigError, match="leave a test part"):
        parse_config({"split": {"train_share": 0.85, "validation_share": 0.15}})


@pytest.mark.parametrize(
    ("content", "where"),
    [
        ({"evaluation": {"arms": ["real", "imge_only"]}}, "evaluation.arms names 'imge'"),
        ({"study": {"arms": ["real", "image_only"]}}, "study.arms names 'image'"),
        ({"candidates": {"views": ["ease", "sound_content"]}}, "candidates.views names 'sound'"),
        ({"model": {"fusion_dims": {"sound": 8}}}, "model.fusion_dims names 'sound'"),
    ],
)
def test_knowledge_that_nobody_brings_is_refused(content: dict[str, Any], where: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(content)
    assert f"{where}, which is no knowledge of the items; there is text, graph" in str(caught.value)


def test_files_need_their_paths() -> None:
    with pytest.raises(ConfigError, match="items_path"):
        parse_config({"data": {"source": {"kind": "files", "interactions_path": "a.csv"}}})


@given(num=st.integers(1, 1000), seed=st.integers(0, 10**9))
def test_floats_without_fraction_are_whole_numbers(num: int, seed: int) -> None:
    content = {"training": {"max_epochs": float(num), "seed": float(seed)}, "model": {"hidden_dims": [float(num)]}}
    config = parse_config(content)
    assert (config.training.max_epochs, config.training.seed, config.model.hidden_dims) == (num, seed, (num,))
    assert type(config.training.max_epochs) is int


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_presets_come_back_from_kfp_equal(path: Path) -> None:
    """Kfp carries a dict as a protobuf Struct: no None, and every number a double."""
    config = load_config(path)
    dumped = dump_config(config)
    assert None not in list(_values(dumped))
    assert parse_config(dumped) == config
    assert parse_config(_as_struct(dumped)) == config


def test_a_value_of_null_survives_kfp() -> None:
    """`value: null` means that every row counts as 1; the default is a column."""
    source = FileSource(interactions_path=Path("a.csv"), items_path=Path("b.csv"), value=None)
    config = PipelineConfig.model_validate({"data": {"source": source.model_dump()}})
    assert parse_config(_as_struct(dump_config(config))) == config


def _values(content: Any) -> Any:
    if isinstance(content, dict):
        for value in content.values():
            yield from _values(value)
    elif isinstance(content, list):
        for value in content:
            yield from _values(value)
    else:
        yield content


def _as_struct(content: dict[str, Any]) -> dict[str, Any]:
    from google.protobuf import json_format, struct_pb2  # type: ignore[import-untyped]

    struct = json_format.ParseDict(content, struct_pb2.Struct())
    back: dict[str, Any] = json_format.MessageToDict(struct)
    return back


def test_paths_count_from_the_preset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "presets").mkdir()
    path = tmp_path / "presets" / "shop.yaml"
    source = {"kind": "files", "interactions_path": "../a.csv", "items_path": str(tmp_path / "b.csv")}
    path.write_text(yaml.safe_dump({"data": {"source": source}}))
    monkeypatch.chdir("/")
    found = load_config(path).data.source
    assert isinstance(found, FileSource)
    assert found.interactions_path.resolve() == (tmp_path / "a.csv").resolve()
    assert found.items_path == tmp_path / "b.csv"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"name: [shop", ("could not be read", "expected: a YAML file")),
        (b"\xff\xfe\x00name", ("could not be read", "UTF-8")),
        (b"- a\n- b\n", ("expected: a mapping", "got: list")),
        (b"shop", ("expected: a mapping", "got: str")),
        (b"data: 5", ("data", "expected:", "got: 5")),
        (b"!!python/object/apply:os.system ['true']", ("could not be read",)),
    ],
)
def test_unreadable_preset(content: bytes, words: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "shop.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert caught.value.exit_code == 2
    assert [word for word in words if word not in str(caught.value)] == [], str(caught.value)


def test_missing_preset_and_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="There is no configuration"):
        load_config(tmp_path / "shop.yaml")
    with pytest.raises(ConfigError, match="could not be read"):
        load_config(tmp_path)


def test_empty_preset_is_the_default(tmp_path: Path) -> None:
    path = tmp_path / "empty.yaml"
    path.write_text("# nothing\n")
    assert load_config(path) == PipelineConfig(auto=AutoConfig())


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.__name__)
def test_every_field_is_described(section: type[BaseModel]) -> None:
    for name, info in section.model_fields.items():
        nested = isinstance(info.default, BaseModel) or name in ("kind", "family")
        assert nested or info.description, f"{section.__name__}.{name}"


def test_configuration_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        PipelineConfig().training.seed = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("section", "where"),
    [
        ({"model_name": "team/ranker"}, "registry.model_name"),
        ({"model_name": "a:b"}, "registry.model_name"),
        ({"model_name": " ranker"}, "registry.model_name"),
        ({"model_name": "x" * 201}, "registry.model_name"),
        ({"gate_metric": "auc_wram"}, "registry.gate_metric"),
        ({"gate_metric": "accuracy"}, "registry.gate_metric"),
    ],
)
def test_names_that_would_fail_after_a_training_are_refused_first(section: dict[str, str], where: str) -> None:
    with pytest.raises(ConfigError, match=where) as caught:
        parse_config({"registry": section})
    assert caught.value.exit_code == 2


def test_every_metric_of_the_gate_may_be_named() -> None:
    for metric in (f"{base}_{subset}" for base in METRICS for subset in SUBSETS):
        assert parse_config({"registry": {"gate_metric": metric}}).registry.gate_metric == metric


def test_values_are_gated_by_their_error() -> None:
    regression = {"data": {"label": {"kind": "regression"}}}
    assert parse_config(regression).registry.gate_metric == "rmse_warm"
    named = parse_config({**regression, "registry": {"gate_metric": "auc_cold"}})
    assert named.registry.gate_metric == "rmse_cold"
    assert parse_config(dump_config(named)) == named


def test_an_encoders_folder_counts_from_the_preset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "shop.yaml"
    monkeypatch.chdir("/")
    for encoder, expected in (("./mine", str(tmp_path / "mine")), ("minilm", "minilm"), ("org/name", "org/name")):
        path.write_text(yaml.safe_dump({"embedding": {"encoder": encoder}}))
        assert load_config(path).embedding.encoder == expected
