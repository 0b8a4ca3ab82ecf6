"""What a cluster adds to pipelines: to nested ones too, and only to those that are compiled for it."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format  # type: ignore[import-untyped]
from kfp import dsl

from components.ingest import ingest
from components.split import split
from lorefuse.config.cluster import ClusterConfig, Resources, load_cluster, secrets_of
from lorefuse.core.errors import ConfigError, UsageError
from lorefuse.core.failure import WEBHOOK_VARIABLE
from pipelines.compile import find_pipeline, pipeline_names
from pipelines.platform import CODE_VARIABLE, on_cluster
from tests.helpers.kfp_bodies import kubernetes_executors, parse_documents
from tests.helpers.shop import PROJECT_PATH, environment
from tests.helpers.webhook import Webhook


@dsl.pipeline(name="inner")
def inner(config: dict) -> None:  # type: ignore[type-arg]
    data = ingest(config=config).outputs["dataset"]
    with dsl.ParallelFor(["global_time"], name="strategies") as strategy:
        split(config=config, strategy=strategy, dataset=data)


@dsl.pipeline(name="outer")
def outer(config: dict) -> None:  # type: ignore[type-arg]
    parts = split(config=config, strategy="per_user_time", dataset=ingest(config=config).outputs["dataset"])
    parts.set_caching_options(False)
    inner(config=config)


def test_nested_pipelines_are_dressed_too() -> None:
    pipeline = on_cluster(outer, ClusterConfig(image="registry.example.org/python:1"))
    executors = pipeline.pipeline_spec.deployment_spec["executors"]
    inside = [name for name in executors if name.startswith("exec-split")]
    assert len(inside) == 2
    for name in executors:
        container = executors[name]["container"]
        assert container["image"] == "registry.example.org/python:1"
        assert CODE_VARIABLE in [variable["name"] for variable in container["env"]]
    kubernetes = pipeline.platform_spec.platforms["kubernetes"].deployment_spec.executors
    assert set(kubernetes.keys()) == set(executors)


def test_a_secret_of_one_step_takes_the_place_of_that_of_all() -> None:
    login, other = {"username": "USER", "password": "PASSWORD"}, {"key": "PASSWORD", "region": "REGION"}
    secrets = [{"name": "all", "keys": login}, {"name": "one", "keys": other, "steps": ["register"]}]
    cluster = ClusterConfig.model_validate({"secrets": secrets})
    assert [(one.name, one.keys) for one in secrets_of(cluster, "split")] == [("all", login)]
    assert [(one.name, one.keys) for one in secrets_of(cluster, "register")] == [
        ("all", {"username": "USER"}),
        ("one", other),
    ]


@pytest.mark.parametrize("name", pipeline_names())
def test_every_pipeline_of_the_project_can_be_dressed(name: str) -> None:
    pipeline = on_cluster(find_pipeline(name), ClusterConfig())
    spec = json_format.MessageToDict(pipeline.pipeline_spec)
    _, platform = parse_documents(spec, json_format.MessageToDict(pipeline.platform_spec))
    executors = spec["deploymentSpec"]["executors"]
    assert set(kubernetes_executors(platform)) == set(executors)
    assert all(executor["container"]["resources"]["resourceMemoryLimit"] for executor in executors.values())
    assert set(spec["root"]["dag"]["tasks"]) == {"exit-handler-1", "report-failure"}


def test_a_pipeline_may_leave_a_step_uncached() -> None:
    tasks = on_cluster(outer, ClusterConfig()).pipeline_spec.components["comp-exit-handler-1"].dag.tasks
    assert {name: task.caching_options.enable_cache for name, task in tasks.items()} == {
        "ingest": False,
        "split": False,
        "inner": True,
    }


def test_the_pipeline_itself_stays_as_it_is() -> None:
    before = outer.pipeline_spec.SerializeToString(deterministic=True)
    on_cluster(outer, ClusterConfig())
    assert outer.pipeline_spec.SerializeToString(deterministic=True) == before


@pytest.mark.parametrize("name", ["cpu", "gpu"])
def test_cluster_files_of_the_project_validate(name: str) -> None:
    assert load_cluster(PROJECT_PATH / "pipelines" / "clusters" / f"{name}.yaml").image is not None


MISTAKES = {
    "secret in env": ("env: {AWS_SECRET_ACCESS_KEY: abc}", "env must hold no secrets (AWS_SECRET_ACCESS_KEY)"),
    "token in env": ("env: {HF_TOKEN: abc}", "name a Kubernetes secret under `secrets`"),
    "request over limit": ("default: {cpu_request: '4', cpu_limit: 3500m}", "cpu_request 4 must not exceed"),
    "memory over limit": ("default: {memory_request: 2Gi, memory_limit: 2G}", "memory_request 2Gi must not exceed"),
    "no quantity": ("steps: {embed: {memory_limit: lots}}", "steps.embed.memory_limit"),
    "unknown key": ("gpu: {cout: 1}", "gpu.cout: unknown key"),
    "no bucket": ("storage: {pipeline_root: my-folder}", "storage.pipeline_root"),
    "not YAML": ("env: [", "could not be read"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_in_a_cluster_file(mistake: str, tmp_path: Path) -> None:
    text, words = MISTAKES[mistake]
    path = tmp_path / "cluster.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as raised:
        load_cluster(path)
    assert words in str(raised.value)


def test_a_missing_cluster_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"pipelines/clusters/cpu\.yaml"):
        load_cluster(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    "content",
    [
        {"steps": {"embedd": Resources()}},
        {"uncached": ("embedd",)},
        {"gpu": {"steps": ("embedd",)}},
    ],
    ids=("steps", "uncached", "gpu"),
)
def test_a_step_that_does_not_exist(content: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="embedd"):
        on_cluster(outer, ClusterConfig(**content))


LOCAL_RUN = """
import sys
from kfp import local
from lorefuse.config.cluster import ClusterConfig, Resources, StorageConfig
from pipelines.compile import find_pipeline, pipeline_names
from pipelines.platform import on_cluster
from tests.helpers.small_pipeline import small

once = Resources(num_retries=0)
storage = StorageConfig(mount_path=sys.argv[1] + "/mount")
cluster = ClusterConfig(default=once, steps={}, storage=storage)
local.init(runner=local.SubprocessRunner(use_venv=False), pipeline_root=sys.argv[1] + "/root", raise_on_error=True)
source = {"kind": "files", "interactions_path": "/nowhere/a.csv", "items_path": "/nowhere/b.csv"}
on_cluster(small, cluster)(config={"name": "shop", "data": {"source": source}})
"""


def test_a_dressed_pipeline_runs_here_and_its_failure_is_told(tmp_path: Path) -> None:
    """By kfp's local runner: the exit handler, its final status and the run's name are the real ones."""
    with Webhook() as webhook:
        done = subprocess.run(
            [sys.executable, "-c", LOCAL_RUN, str(tmp_path)],
            env=environment(tmp_path / "home", **{WEBHOOK_VARIABLE: webhook.url}),
            cwd=PROJECT_PATH,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 1
    assert "Inner task failed" in done.stderr
    (received,) = webhook.received
    assert received["text"].startswith("lorefuse-small: run lorefuse-small-")
    assert "ended as FAILED" in received["text"]
