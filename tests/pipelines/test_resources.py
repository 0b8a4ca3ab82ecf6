"""A TrainJob and a Katib Experiment: bodies held to their API's models, and what their pods run, run for real."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import kubeflow_katib_api.models as katib
import kubeflow_trainer_api.models as trainer
import pytest
import yaml

from lorefuse.config import TrainingConfig, TuningConfig
from lorefuse.config.cluster import ClusterConfig, load_cluster
from lorefuse.config.resources import ResourceRequest
from lorefuse.core.errors import ConfigError, LorefuseError, UsageError
from lorefuse.training import job as training_job
from lorefuse.training.job import read_trained
from lorefuse.tuning.flat import METRIC, from_flat
from lorefuse.tuning.space import ALIGNMENT, CHOICES, RANGES
from pipelines.resources import create, experiment, held_to, train_job
from tests.helpers.shop import PROJECT_PATH
from tests.helpers.training_rows import make_training_set, small_config

KATIB_LINE = re.compile(r"([\w|-]+)\s*=\s*([+-]?\d*(\.\d+)?([Ee][+-]?\d+)?)")
"""Katib's default filter of the stdout collector (pkg/metricscollector/v1beta1/common/const.go)."""
GPU = load_cluster(PROJECT_PATH / "pipelines" / "clusters" / "gpu.yaml")
JOINT = small_config(
    tuning=TuningConfig(space="joint", families=("deepfm", "logistic_regression"), num_trials=6),
    training=TrainingConfig(batch_size=64, max_epochs=2, num_threads=1, num_processes=2),
)


def _request(resource: str, rows_path: Path, **more: Any) -> ResourceRequest:
    fields = {"config_path": "unused.yaml", "yaml_path": rows_path.parent / "out.yaml", "name": "films"}
    return ResourceRequest.model_validate({"resource": resource, "rows_path": rows_path, **fields, **more})


@pytest.fixture
def rows_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LOREFUSE_HOME", str(tmp_path / "home"))
    (tmp_path / "rows").mkdir()
    make_training_set().save(tmp_path / "rows")
    return tmp_path / "rows"


def test_a_train_job_is_what_the_trainer_reads(rows_path: Path) -> None:
    request = _request("trainjob", rows_path, out_path=rows_path.parent / "ranker", num_nodes=3)
    body = train_job(request, JOINT, GPU)
    spec = trainer.TrainerV1alpha1TrainJob.from_dict(body).spec
    assert (spec.trainer.num_nodes, spec.trainer.num_proc_per_node) == (3, 2)
    assert spec.trainer.resources_per_node.to_dict()["limits"]["nvidia.com/gpu"] == "1"
    by_reference = {env.name: env.value_from.secret_key_ref.name for env in spec.trainer.env if env.value_from}
    assert by_reference["AWS_SECRET_ACCESS_KEY"] == "lorefuse-s3"
    pod = spec.runtime_patches[0].training_runtime_spec.template.spec.replicated_jobs[0].template.spec.template.spec
    assert pod.volumes[0].persistent_volume_claim.claim_name == "lorefuse-home"
    assert pod.containers[0].volume_mounts[0].mount_path == GPU.storage.mount_path
    assert pod.security_context.run_as_non_root is True
    assert spec.trainer.command == ["torchrun"]
    assert spec.trainer.args[:2] == ["-m", "lorefuse.training.job"]


def test_what_a_train_job_runs_trains(rows_path: Path) -> None:
    body = train_job(_request("trainjob", rows_path, out_path=rows_path.parent / "ranker"), JOINT, ClusterConfig())
    assert training_job.main(body["spec"]["trainer"]["args"][2:]) == 0
    assert read_trained(rows_path.parent / "ranker").history.epochs


def test_several_nodes_need_shared_storage(rows_path: Path) -> None:
    with pytest.raises(UsageError, match="storage that they share"):
        train_job(_request("trainjob", rows_path, out_path=rows_path, num_nodes=2), JOINT, ClusterConfig())


def test_a_field_that_the_api_does_not_know_is_refused(rows_path: Path) -> None:
    body = train_job(_request("trainjob", rows_path, out_path=rows_path), JOINT, ClusterConfig())
    body["spec"]["trainer"]["numGpus"] = 1
    with pytest.raises(LorefuseError, match="not what its API says"):
        held_to(trainer.TrainerV1alpha1TrainJob, body)


@pytest.mark.parametrize("arm", ["real", "none"])
def test_an_experiment_searches_the_space_of_the_study(rows_path: Path, arm: str) -> None:
    body = experiment(_request("katib", rows_path, arm=arm), JOINT, GPU)
    spec = katib.V1beta1Experiment.from_dict(body).spec
    assert (spec.objective.type, spec.objective.objective_metric_name) == ("maximize", METRIC)
    by_name = {parameter.name: parameter for parameter in spec.parameters}
    wanted = {*RANGES, "family", "embedding_dim"} | ({*CHOICES, *ALIGNMENT} if arm == "real" else set())
    assert by_name.keys() == wanted
    rate = by_name["learning_rate"].feasible_space
    assert (float(rate.min), float(rate.max), rate.distribution) == (1e-3, 4e-3, "logUniform")
    assert by_name["family"].feasible_space.list == ["deepfm", "logistic_regression"]
    assert [parameter.reference for parameter in spec.trial_template.trial_parameters] == list(by_name)


def test_a_katib_trial_runs_and_prints_its_metric(rows_path: Path) -> None:
    body = experiment(_request("katib", rows_path), JOINT, ClusterConfig())
    template = body["spec"]["trialTemplate"]
    command = template["trialSpec"]["spec"]["template"]["spec"]["containers"][0]["command"]
    drawn = {part["name"]: part["feasibleSpace"] for part in body["spec"]["parameters"]}
    values = {name: space.get("min") or space["list"][-1] for name, space in drawn.items()}
    assert values["family"] == "logistic_regression"
    filled = [re.sub(r"\$\{trialParameters\.(\w+)\}", lambda found: values[found[1]], part) for part in command]
    # Katib's webhook puts the rest of a shell's command behind `sh -c`, joined with spaces, to catch what it prints.
    assert filled[:2] == ["sh", "-c"]
    shell = ["sh", "-c", " ".join([*filled[2:], "2>&1"])]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    env = {**os.environ, "PYTHONPATH": str(PROJECT_PATH), "OMP_NUM_THREADS": "1", "PATH": path}
    done = subprocess.run(shell, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout
    assert "this model has no alignment_temperature, alignment_weight, embedding_dim, fusion, init" in done.stdout
    found = {match[1]: match[2] for match in map(KATIB_LINE.search, done.stdout.splitlines()) if match}
    assert -1.5 < float(found[METRIC]) < 0


def test_flat_points_become_points_of_the_conditional_space() -> None:
    flat = {name: str(low) for name, (low, _, _) in {**RANGES, **ALIGNMENT}.items()}
    flat |= {"family": "deepfm", "embedding_dim": "16", "fusion": "gated", "init": "text", "alignment": "False"}
    params = from_flat(flat, JOINT)
    assert (params["embedding_dim"], params["fusion"], params["alignment_weight"]) == (16, "gated", 0.0)
    assert "alignment_temperature" not in params
    assert from_flat(flat | {"alignment": "True"}, JOINT)["alignment_temperature"] == 0.05
    for wrong, match in (
        ({"embedding_dim": "15"}, "8 or 16 or 32"),
        ({"learning_rate": "1"}, "0.001 to 0.004"),
        ({"learning_rate": "nan"}, "cannot be 'nan'"),
        ({"speed": "1"}, "needs a value for each"),
    ):
        with pytest.raises(ConfigError, match=match):
            from_flat(flat | wrong, JOINT)


@pytest.fixture
def api_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, Any]]]:
    """A stand-in for Kubernetes' API server: it takes TrainJobs in namespace films and knows nothing else."""
    received: list[tuple[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            received.append((self.path, body))
            known = self.path == "/apis/trainer.kubeflow.org/v1alpha1/namespaces/films/trainjobs"
            answer = json.dumps(body if known else {"kind": "Status", "code": 404}).encode()
            self.send_response(201 if known else 404)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    place = {"cluster": "here", "user": "me"}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "clusters": [{"name": "here", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
        "users": [{"name": "me", "user": {}}],
        "contexts": [{"name": "here", "context": place}],
    }
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config), "utf-8")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    yield received
    server.shutdown()
    server.server_close()


def test_a_train_job_is_created_through_the_kubeconfig(rows_path: Path, api_server: list[tuple[str, Any]]) -> None:
    body = train_job(_request("trainjob", rows_path, out_path=rows_path, namespace="films"), JOINT, GPU)
    create(body, "trainjobs")
    assert api_server == [("/apis/trainer.kubeflow.org/v1alpha1/namespaces/films/trainjobs", body)]
    with pytest.raises(UsageError, match=r"there is no experiments\.kubeflow\.org"):
        create(experiment(_request("katib", rows_path, namespace="films"), JOINT, GPU), "experiments")


def test_the_commands_write_yaml(rows_path: Path, tmp_path: Path) -> None:
    preset = PROJECT_PATH / "pipelines" / "configs" / "movielens_100k.yaml"
    env = {**os.environ, "PYTHONPATH": str(PROJECT_PATH), "LOREFUSE_PROJECT": str(PROJECT_PATH)}
    command = [
        sys.executable,
        "-c",
        "import sys; from lorefuse.cli.main import main; sys.exit(main())",
        "submit-tuning",
    ]
    command += ["--config", str(preset), "--rows", "/var/lib/lorefuse/rows", "--yaml", str(tmp_path / "films.yaml")]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    body = yaml.safe_load((tmp_path / "films.yaml").read_text("utf-8"))
    assert held_to(katib.V1beta1Experiment, body)["spec"]["maxTrialCount"] >= 1
