"""Small synthetic artifacts as the other rooms write them: a bundle, an evaluation, a dataset, a split."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pandas as pd
from onnx import TensorProto, helper
from safetensors.numpy import save_file

from lorefuse.config import PipelineConfig
from lorefuse.core.atomic import sha256_file, write_json
from lorefuse.core.schema import SPLIT_CODES
from lorefuse.export.bundle import _REQUIRED as REQUIRED
from lorefuse.export.bundle import FORMAT
from lorefuse.export.signature import ServingSignature
from lorefuse.training_set.arrays import TrainingSet
from lorefuse.training_set.spec import CategoricalField, FeatureSpec
from tests.helpers.knowledge import blocks

SPEC = FeatureSpec(
    user_fields=(CategoricalField(name="user_id", size=9),),
    item_fields=(CategoricalField(name="item_id", size=7), CategoricalField(name="decade", size=3)),
    user_numeric=("mean_label",),
    item_numeric=("prior",),
    knowledge=blocks(text=3),
    data_cutoff="1998-03-01T00:00:00+00:00",
)
CONFIG = PipelineConfig()
NUM_USERS, ROWS_PER_USER = 40, 12
METRICS = ("auc", "gauc", "logloss", "ndcg_at_10", "recall_at_10")


def _inputs(spec: FeatureSpec) -> dict[str, np.dtype[Any]]:
    ranker = ServingSignature.of(spec).ranker
    return {tensor.name: tensor.numpy_dtype for tensor in ranker.inputs}


def make_ranker(path: Path, bias: float, spec: FeatureSpec = SPEC) -> None:
    """Write an ONNX ranker: sigmoid(bias + sum of all inputs / 10)."""
    nodes, parts, inputs = [], [], []
    for name, dtype in _inputs(spec).items():
        kind = TensorProto.INT64 if dtype == np.int64 else TensorProto.FLOAT
        inputs.append(helper.make_tensor_value_info(name, kind, ["batch", spec.width(name)]))
        nodes.append(helper.make_node("Cast", [name], [f"{name}_f"], to=TensorProto.FLOAT))
        nodes.append(helper.make_node("ReduceSum", [f"{name}_f", "axis"], [f"{name}_s"], keepdims=0))
        parts.append(f"{name}_s")
    nodes += [
        helper.make_node("Sum", parts, ["total"]),
        helper.make_node("Mul", ["total", "tenth"], ["scaled"]),
        helper.make_node("Add", ["scaled", "bias"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["score"]),
    ]
    constants = [
        helper.make_tensor("axis", TensorProto.INT64, [1], [1]),
        helper.make_tensor("tenth", TensorProto.FLOAT, [], [0.1]),
        helper.make_tensor("bias", TensorProto.FLOAT, [], [bias]),
    ]
    outputs = [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["batch"])]
    graph = helper.make_graph(nodes, "ranker", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save_model(model, str(path))


def make_bundle(path: Path, bias: float = 0.0, spec: FeatureSpec = SPEC, vocabulary: str = "a") -> Path:
    """Write a bundle folder with a real ONNX ranker."""
    path.mkdir(parents=True)
    make_ranker(path / "ranker.onnx", bias, spec)
    make_ranker(path / "catalogue_ranker.onnx", bias + 1, spec)
    spec.save(path)
    write_json(path / "config.json", CONFIG.model_dump(mode="json"))
    write_json(path / "vocabularies.json", {"user_id": [vocabulary]})
    write_json(path / "embedding.json", {"address": "af57", "dim": 3})
    write_json(path / "serving.json", {"num_items": 6, "limits": CONFIG.serving.model_dump(mode="json")})
    for name in sorted({*REQUIRED} - {file.name for file in path.iterdir()}):
        (path / name).write_bytes(name.encode())  # not read by this room
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {
        name: rng.integers(0, 3, (8, spec.width(name))).astype(dtype) for name, dtype in _inputs(spec).items()
    }
    session = onnxruntime.InferenceSession(str(path / "ranker.onnx"), providers=["CPUExecutionProvider"])
    save_file(arrays | {"score": session.run(None, arrays)[0]}, str(path / "reference.safetensors"))
    sha256 = {file.name: sha256_file(file) for file in sorted(path.iterdir())}
    write_json(path / "bundle.json", {"format": FORMAT, "sha256": sha256, "data_cutoff": spec.data_cutoff})
    return path


def make_scores(noise: float, seed: int = 0) -> pd.DataFrame:
    """Return test scores whose quality falls with `noise`; every fourth row is cold."""
    truth, rng = np.random.default_rng(99), np.random.default_rng(seed)
    num_rows = NUM_USERS * ROWS_PER_USER
    label = (truth.random(num_rows) < 0.5).astype(np.float32)
    logit = (label - 0.5) * 2 + noise * rng.standard_normal(num_rows)
    return pd.DataFrame(
        {
            "row_id": np.arange(num_rows, dtype=np.int64),
            "user_row": np.repeat(np.arange(NUM_USERS), ROWS_PER_USER).astype(np.int32),
            "label": label,
            "score": (1 / (1 + np.exp(-logit))).astype(np.float32),
            "cold": np.arange(num_rows) % 4 == 0,
        }
    )


def make_metrics() -> dict[str, Any]:
    """Return `metrics.json` with two splits and four arms."""
    rng = np.random.default_rng(3)
    level = {"real": 0.80, "none": 0.79, "shuffled": 0.788, "random": 0.786}

    def part(arm: str) -> dict[str, Any]:
        entries = {}
        for metric in METRICS:
            for subset, offset in (("all", 0.0), ("warm", 0.004), ("cold", -0.06)):
                base = 0.56 - (level[arm] - 0.8) if metric == "logloss" else level[arm]
                values = base + offset + 0.002 * rng.standard_normal(3)
                entries[f"{metric}_{subset}"] = {
                    "mean": float(values.mean()),
                    "std": float(values.std(ddof=1)),
                    "values": values.tolist(),
                }
        return entries

    def split() -> dict[str, Any]:
        arms = {
            arm: {"test": part(arm), "validation": part(arm), "num_epochs": [7, 8, 7], "train_s": [2.1, 2.2, 2.0]}
            for arm in level
        }
        differences = {
            arm: {
                f"{metric}_{subset}": {
                    "mean": sign * (gap + shift),
                    "low": sign * (gap + shift) - 0.006,
                    "high": sign * (gap + shift) + 0.006,
                }
                for metric, sign in zip(METRICS, (1, 1, -1, 1, 1), strict=True)
                for subset, shift in (("all", 0.0), ("warm", -0.006), ("cold", 0.02))
            }
            for arm, gap in (("none", 0.010), ("shuffled", 0.012), ("random", 0.014))
        }
        return {"arms": arms, "differences": differences, "verdicts": {"warm": "no evidence", "cold": "helped"}}

    return {
        "k": 10,
        "label_kind": "binary",
        "seeds": [0, 1, 2],
        "splits": {"per_user_time": split(), "global_time": split()},
        "best_params": {"real": {"learning_rate": 0.002, "dropout": 0.2}, "none": {"learning_rate": 0.003}},
        "counts": {"train": 70500, "test_warm": 360, "test_cold": 120},
    }


def make_evaluation(path: Path, noise: float = 1.0, seed: int = 0) -> Path:
    """Write an evaluation folder."""
    path.mkdir(parents=True)
    write_json(path / "metrics.json", make_metrics())
    epochs = [
        {
            "epoch": e,
            "train_loss": 0.69 - 0.02 * e + 0.001 * e * e,
            "validation_auc": 0.70 + 0.02 * e - 0.0015 * e * e,
            "validation_logloss": 0.62 - 0.015 * e + 0.0012 * e * e,
        }
        for e in range(1, 9)
    ]
    write_json(path / "history.json", {"real": epochs, "none": epochs[:6]})
    trials = [
        {
            "number": n,
            "params": {"learning_rate": 0.001 * (n + 1), "dropout": 0.1 * n},
            "value": 0.78 + 0.004 * n if n != 2 else None,
            "state": "COMPLETE" if n != 2 else "PRUNED",
            "duration_s": 3.2,
        }
        for n in range(4)
    ]
    write_json(path / "trials.json", {"real": trials, "none": trials})
    make_scores(noise, seed).to_parquet(path / "user_scores.parquet", index=False)
    return path


def make_dataset(path: Path, title: str = "a") -> Path:
    """Write what the registry and the report read of a dataset folder: manifest and quarantine."""
    path.mkdir(parents=True)
    (path / "interactions.parquet").write_bytes(title.encode())
    manifest = {
        "counts": {"interactions": 100000, "items": 1682, "users": 943, "triples": 91631, "links": 1332},
        "cutoffs": {"first": "1997-09-20T03:05:10+00:00", "last": "1998-04-22T23:10:38+00:00"},
        "label": {"kind": "binary", "threshold": 4.0},
        "label_mean": 0.55375,
        "quarantined": {"interactions: unknown item_id": 3, "interactions: value is not a number": 1},
        "reports": {"links": {"num_items": 1682, "num_links": 1332, "num_raw_links": 1598, "reference": "titles"}},
        "source": {"kind": "movielens_100k", "origin": "a mirror"},
        "sha256": {"interactions.parquet": "9672994e"},
    }
    write_json(path / "manifest.json", manifest)
    (path / "quarantine.jsonl").write_text('{"line": 3, "reason": "unknown item_id"}\n')
    return path


def make_split(path: Path, seed: int = 0) -> Path:
    """Write `split.json` of a split folder."""
    path.mkdir(parents=True)
    facts = {
        "strategy": "per_user_time",
        "seed": seed,
        "train_share": 0.8,
        "validation_share": 0.1,
        "cold_item_share": 0.12,
        "counts": {"train": 70500, "validation": 9942, "test": 10439, "excluded": 9119},
        "cold_counts": {"train": 0, "validation": 1214, "test": 1235, "excluded": 9119},
        "cutoffs": {"train": "1998-04-22T23:10:38+00:00"},
        "data_cutoff": "1998-04-22T23:10:38+00:00",
        "held_out_items": ["1", "2"],
    }
    write_json(path / "split.json", facts)
    return path


def make_training_set(path: Path, scores: pd.DataFrame, spec: FeatureSpec = SPEC) -> Path:
    """Write a training set all of whose rows are test rows, in the order of `scores`."""
    path.mkdir(parents=True)
    num_rows, rng = len(scores), np.random.default_rng(5)

    def draw(width: int) -> Any:
        return rng.random((num_rows, width), dtype=np.float32)

    TrainingSet(
        spec=spec,
        user_row=scores["user_row"].to_numpy(np.int32),
        item_row=np.arange(num_rows, dtype=np.int32) % 6,
        timestamp_us=np.arange(num_rows, dtype=np.int64),
        value=scores["label"].to_numpy(np.float32),
        label=scores["label"].to_numpy(np.float32),
        split_code=np.full(num_rows, SPLIT_CODES["test"], dtype=np.uint8),
        cold=scores["cold"].to_numpy(bool),
        user_numeric=draw(1),
        state_row=np.arange(len(draw(0)), dtype=np.int32),
        user_history=draw(0).astype(np.int32),
        user_interest=draw(0),
        item_numeric=draw(1),
        user_fields=np.zeros((NUM_USERS, 1), dtype=np.int64),
        item_fields=np.zeros((6, 2), dtype=np.int64),
        item_multi=np.zeros((6, 0), dtype=np.int64),
        knowledge={"text": rng.random((6, 3), dtype=np.float32)},
        item_numeric_now=np.zeros((6, 1), dtype=np.float32),
    ).save(path)
    return path


def read_json(path: Path) -> Any:
    """Return a JSON file's content."""
    return json.loads(path.read_text("utf-8"))
