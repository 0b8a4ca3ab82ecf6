from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lorefuse.core.atomic import sha256_file, write_json
from lorefuse.core.errors import ArtifactError, UsageError
from lorefuse.export.bundle import BUNDLE_FILE, FORMAT, RETRIEVAL_FILES, Bundle
from lorefuse.registry import run as run_module
from lorefuse.registry import version as version_module
from lorefuse.registry.flavor import STORE_FOLDER
from lorefuse.registry.tracking import connect
from lorefuse.registry.version import STORE_TAG, aliases, fetch, fetch_bundle, get_version, promote, versions
from tests.helpers import artifacts
from tests.unit.registry.conftest import Workbench
from tests.unit.report.test_race import race

NAME = artifacts.CONFIG.registry.model_name
PRIVACY = {
    "epsilon": 2.991324, "delta": 1e-5, "unit": "user", "covers": "weights of the ranker, given its inputs",
    "accountant": "RDP, Opacus 1.6.0", "noise_multiplier": 1.72, "max_grad_norm": 1.0, "sample_rate": 0.27,
    "num_steps": 160, "num_users": 943, "rows_per_user": 32,
}  # fmt: skip


def test_a_version_carries_everything(workbench: Workbench, tmp_path: Path) -> None:
    import mlflow

    done = workbench.register()
    assert done["version"] == "1"
    assert not done["reused"]
    assert aliases(NAME) == {"challenger": "1"}
    source = Bundle.load(tmp_path / "bundle-a")
    fetched = fetch_bundle(NAME, "challenger", tmp_path / "fetched")
    assert fetched.sha256 == source.sha256
    assert Bundle.load(fetched.path).digest == source.digest

    from safetensors.numpy import load_file

    reference = load_file(str(fetched.path / "reference.safetensors"))
    expected = reference.pop("score")
    assert mlflow.onnx.load_model(f"models:/{NAME}@challenger").graph.name == "ranker"
    model = mlflow.pyfunc.load_model(f"models:/{NAME}@challenger")
    np.testing.assert_allclose(model.predict(reference)["score"], expected, atol=1e-6)
    example = model.input_example
    assert {name: np.asarray(value).shape[1] for name, value in example.items()}["item_text"] == 3
    schema = {spec.name: (str(spec.type), spec.shape) for spec in model.metadata.signature.inputs}
    assert schema["user_fields"] == ("int64", (-1, 1))
    assert schema["item_text"] == ("float32", (-1, 3))
    entry = get_version(NAME, "1")
    assert entry.tags["lorefuse.data_cutoff"] == artifacts.SPEC.data_cutoff
    assert entry.tags["lorefuse.embedding_address"] == "af57"
    files = {str(p.relative_to(tmp_path)) for p in (tmp_path / "lorefuse-home").rglob("*")}
    assert not [name for name in files if name.endswith((".pkl", ".pickle"))]


def test_a_version_carries_its_online_features(workbench: Workbench, tmp_path: Path) -> None:
    entry = get_version(NAME, workbench.register()["version"])
    store_path = fetch(entry, STORE_FOLDER, tmp_path / "fetched")
    assert (store_path / "online_store.db").read_bytes() == b"online features"
    assert entry.tags[STORE_TAG] == sha256_file(store_path / "online_store.db")


def test_a_run_holds_params_metrics_curves_data_and_report(workbench: Workbench) -> None:
    done = workbench.register()
    client = connect()
    run = client.get_run(done["run_id"])
    assert run.info.status == "FINISHED"
    assert run.data.params["model.embedding_dim"] == "16"
    assert run.data.params["best.real.learning_rate"] == "0.002"
    metrics = artifacts.make_metrics()["splits"]["per_user_time"]
    assert run.data.metrics["auc_warm"] == pytest.approx(metrics["arms"]["real"]["test"]["auc_warm"]["mean"])
    assert run.data.metrics["auc_cold_vs_none"] == pytest.approx(0.03)
    assert run.data.metrics["global_time/real_minus_none/auc_cold_low"] == pytest.approx(0.024)
    curve = client.get_metric_history(done["run_id"], "curve/real/validation_auc")
    assert [point.step for point in curve] == list(range(1, 9))
    inputs = {entry.dataset.name: entry for entry in run.inputs.dataset_inputs}
    assert set(inputs) == {f"movielens_100k/{part}" for part in ("train", "validation", "test")}
    assert len({entry.dataset.digest for entry in inputs.values()}) == 3
    assert {entry.tags[0].value for entry in inputs.values()} == {"train", "validation", "test"}
    assert [file.path for file in client.list_artifacts(done["run_id"], "report")] == ["report/report.html"]
    kept = [file.path for file in client.list_artifacts(done["run_id"], "dataset")]
    assert kept == ["dataset/manifest.json"], "rows that were set aside stay where they are"
    assert done["run_id"] in done["run_url"]


def test_the_race_that_chose_is_part_of_the_run(workbench: Workbench, tmp_path: Path) -> None:
    import mlflow

    (tmp_path / "race").mkdir()
    write_json(tmp_path / "race" / "choice.json", race())
    done = workbench.register(choice_path=tmp_path / "race")
    run = connect().get_run(done["run_id"])
    assert get_version(NAME, done["version"]).tags["lorefuse.auto"].startswith("din: best of 2")
    assert (run.data.params["race.chosen"], run.data.params["race.budget_s"]) == ("din", "600.0")
    assert run.data.metrics["race/linear"] == pytest.approx(0.6)
    assert "race/broken" not in run.data.metrics
    assert mlflow.artifacts.load_dict(f"runs:/{done['run_id']}/auto.json")["chosen"] == "din"


def test_the_same_bundle_is_registered_once(workbench: Workbench) -> None:
    first, second = workbench.register(), workbench.register()
    assert second == {**first, "reused": True}
    assert len(versions(NAME)) == 1
    third = workbench.register("b")
    assert third["version"] == "2"
    assert aliases(NAME) == {"challenger": "2"}


@pytest.mark.parametrize("step", ["create_version", "promote"])
def test_a_killed_registration_leaves_nothing_half_done(
    workbench: Workbench, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    from mlflow import MlflowClient

    class Killed(BaseException):
        pass

    def die(*args: object, **kwargs: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(run_module, step, die)
        # SIGKILL runs no clean-up either: the run stays open.
        patch.setattr(MlflowClient, "set_terminated", lambda *a, **k: None)
        with pytest.raises(Killed):
            workbench.register()
    assert aliases(NAME) == {}
    done = workbench.register()
    assert done["version"] == "1"
    assert done["reused"] == (step == "promote")
    assert aliases(NAME) == {"challenger": "1"}
    runs = connect().search_runs([connect().get_run(done["run_id"]).info.experiment_id])
    assert {run.info.status for run in runs} <= {"FINISHED", "KILLED"}


def test_a_damaged_bundle_is_refused(workbench: Workbench, tmp_path: Path) -> None:
    bundle = artifacts.make_bundle(tmp_path / "bundle-a")
    artifacts.make_evaluation(tmp_path / "evaluation-a")
    (bundle / "ranker.onnx").write_bytes(b"cut short")
    with pytest.raises(ArtifactError, match=r"changed: ranker\.onnx"):
        workbench.register()
    assert versions(NAME) == []


def test_fetching_damaged_or_missing_artifacts_is_an_error(workbench: Workbench, tmp_path: Path) -> None:
    workbench.register()
    stored = next((tmp_path / "lorefuse-home" / "mlflow" / "artifacts").rglob("bundle/vocabularies.json"))
    stored.write_text("{}")
    with pytest.raises(ArtifactError, match=r"changed: vocabularies\.json"):
        fetch_bundle(NAME, "1", tmp_path / "out")
    stored.unlink()
    with pytest.raises(ArtifactError, match=r"missing: vocabularies\.json"):
        fetch_bundle(NAME, "1", tmp_path / "out")
    for file in stored.parent.iterdir():
        file.unlink()
    stored.parent.rmdir()
    with pytest.raises(ArtifactError, match="does not carry bundle/"):
        fetch_bundle(NAME, "1", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_aliases_move_and_unknown_versions_are_named(workbench: Workbench) -> None:
    workbench.register("a")
    workbench.register("b")
    promote(NAME, "1", "champion")
    promote(NAME, "1", "champion")
    assert aliases(NAME) == {"champion": "1", "challenger": "2"}
    with pytest.raises(UsageError, match="no version or alias 9"):
        promote(NAME, "9", "champion")
    with pytest.raises(UsageError, match="no version or alias champion"):
        get_version("no-such-model", "champion")


def test_a_version_of_another_origin_is_not_ours(workbench: Workbench, tmp_path: Path) -> None:
    workbench.register()
    client = connect()
    entry = client.create_model_version(NAME, get_version(NAME, "1").source)
    with pytest.raises(UsageError, match="cannot be served"):
        promote(NAME, str(entry.version), "champion")
    digest = Bundle.load(tmp_path / "bundle-a").digest
    found = version_module.find_version(NAME, digest, client)
    assert found is not None
    assert str(found.version) == "1"


def test_what_retrieval_finds_is_a_metric(workbench: Workbench) -> None:
    """The bundle of a catalogue past one graph carries an index in place of the catalogue's graph."""
    path = artifacts.make_bundle(workbench.path / "bundle-a")
    artifacts.make_evaluation(workbench.path / "evaluation-a", 1.0)
    (path / "catalogue_ranker.onnx").unlink()
    for name in RETRIEVAL_FILES:
        (path / name).write_bytes(name.encode())  # not read by this room
    parity = {
        "recall_at_500": 0.97,
        "recall_at_100": 0.99,
        "kept_of_top_10": 0.8,
        "num_probes": 16,
        "num_retrieved": 500,
    }
    sha256 = {file.name: sha256_file(file) for file in sorted(path.iterdir()) if file.name != BUNDLE_FILE}
    content = {"format": FORMAT, "sha256": sha256, "data_cutoff": artifacts.SPEC.data_cutoff, "parity": parity}
    write_json(path / BUNDLE_FILE, content)
    metrics = connect().get_run(workbench.register()["run_id"]).data.metrics
    assert {name: metrics[f"retrieval/{name}"] for name in parity} == parity


def test_a_version_says_what_its_training_guarantees(workbench: Workbench) -> None:
    plain = get_version(NAME, workbench.register()["version"])
    assert not [name for name in plain.tags if "privacy" in name]
    artifacts.make_bundle(workbench.path / "bundle-b", 0.3)
    artifacts.make_evaluation(workbench.path / "evaluation-b")
    write_json(workbench.path / "evaluation-b" / "metrics.json", {**artifacts.make_metrics(), "privacy": PRIVACY})
    tags = get_version(NAME, workbench.register("b")["version"]).tags
    assert {name.removeprefix("lorefuse.privacy_"): text for name, text in tags.items() if "privacy_" in name} == {
        "epsilon": "2.99132",
        "delta": "1e-05",
        "unit": "user",
        "covers": "weights of the ranker, given its inputs",
        "accountant": "RDP, Opacus 1.6.0",
        "noise_multiplier": "1.72",
        "max_grad_norm": "1",
    }
