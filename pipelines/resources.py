"""A TrainJob of Kubeflow's Trainer and an Experiment of Katib, each checked against the models of its API package.

``python -m pipelines.resources '<request>'`` writes one as YAML (``kubectl apply -f``) and, where asked, creates it
through the current kubeconfig. Contract-tested against the models and a stand-in API server, not run on a cluster.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from typing import Any

import yaml

from lorefuse.auto.pinned import load_chosen
from lorefuse.config import PipelineConfig
from lorefuse.config.cluster import ClusterConfig, load_cluster
from lorefuse.config.resources import ResourceRequest
from lorefuse.core.atomic import atomic_file
from lorefuse.core.errors import LorefuseError, UnreachableError, UsageError
from lorefuse.tuning.flat import METRIC, Choice, Range, flat_space
from pipelines.pods import env_of, image_of, mounts_of, pod_of, resources_of

STEP = {"trainjob": "evaluate", "katib": "tune"}
"""Kind → step of the cluster file whose resources its pods get."""
PLURAL = {"trainjob": "trainjobs", "katib": "experiments"}
CONTAINER, NODE = "trial", "node"
"""Katib's primary container; the trainer's replicated job and its container in a torch runtime."""


def train_job(request: ResourceRequest, config: PipelineConfig, cluster: ClusterConfig) -> dict[str, Any]:
    """Return a TrainJob that trains one ranker by torchrun, its rows shared by all processes of all nodes.

    Args:
        request: Rows, output and number of nodes; `training.num_processes` is the number of processes of each.
        config: The preset.
        cluster: What its pods get.

    Raises:
        UsageError: The request names no folder for the ranker, or the pods share no storage.
    """
    import kubeflow_trainer_api.models as models

    if request.out_path is None:
        raise UsageError("A TrainJob needs a folder for the ranker.", fix="--out")
    if request.num_nodes > 1 and not cluster.storage.pvc:
        raise UsageError(
            "Several nodes need storage that they share.", expected="storage.pvc in the cluster file", got="none"
        )
    job = {"rows_path": str(request.rows_path), "config": config, "arm": request.arm, "out_path": str(request.out_path)}
    mounted = {"name": NODE, "volumeMounts": mounts_of(cluster)}
    pod = {"spec": {**pod_of(cluster, "evaluate"), "containers": [mounted]}}
    patch = {"replicatedJobs": [{"name": NODE, "template": {"spec": {"template": pod}}}]}
    body = {
        "apiVersion": "trainer.kubeflow.org/v1alpha1",
        "kind": "TrainJob",
        "metadata": _metadata(request),
        "spec": {
            "runtimeRef": {"name": request.runtime, "kind": "ClusterTrainingRuntime"},
            "trainer": {
                "image": image_of(cluster),
                "command": ["torchrun"],
                "args": ["-m", "lorefuse.training.job", _job_json(job)],
                "env": env_of(cluster, STEP["trainjob"]),
                "numNodes": request.num_nodes,
                "numProcPerNode": config.training.num_processes,
                "resourcesPerNode": resources_of(cluster, STEP["trainjob"]),
            },
            "runtimePatches": [{"manager": "lorefuse.io/submit", "trainingRuntimeSpec": {"template": {"spec": patch}}}],
            "activeDeadlineSeconds": cluster.steps.get(STEP["trainjob"], cluster.default).timeout_s,
        },
    }
    return held_to(models.TrainerV1alpha1TrainJob, body)


def experiment(request: ResourceRequest, config: PipelineConfig, cluster: ClusterConfig) -> dict[str, Any]:
    """Return a Katib Experiment over the study's own search space, without its conditions (see `tuning.flat`)."""
    import kubeflow_katib_api.models as models

    space = flat_space(config, request.arm)
    task = {"rows_path": str(request.rows_path), "config": config.model_dump(mode="json"), "arm": request.arm}
    arguments = [f"--{name}=${{trialParameters.{name}}}" for name in space]
    container = {
        "name": CONTAINER,
        "image": image_of(cluster),
        "imagePullPolicy": cluster.image_pull_policy,
        # Katib joins command and arguments with spaces for a shell of its own, unless they are one already.
        "command": ["sh", "-c", shlex.join(["python", "-m", "lorefuse.tuning.flat_trial", _json(task), *arguments])],
        "env": env_of(cluster, STEP["katib"]),
        "resources": resources_of(cluster, STEP["katib"]),
        "volumeMounts": mounts_of(cluster),
    }
    pod = {**pod_of(cluster, STEP["katib"]), "restartPolicy": "Never", "containers": [container]}
    trials = config.tuning.num_trials
    body = {
        "apiVersion": "kubeflow.org/v1beta1",
        "kind": "Experiment",
        "metadata": _metadata(request),
        "spec": {
            "objective": {"type": "maximize", "objectiveMetricName": METRIC},
            "algorithm": {
                "algorithmName": "tpe",
                "algorithmSettings": [{"name": "random_state", "value": str(config.tuning.seed)}],
            },
            "maxTrialCount": trials,
            "parallelTrialCount": min(request.num_parallel, trials),
            "maxFailedTrialCount": max(1, trials // 4),
            "metricsCollectorSpec": {"collector": {"kind": "StdOut"}},
            "parameters": [_parameter(name, part) for name, part in space.items()],
            "trialTemplate": {
                "primaryContainerName": CONTAINER,
                "trialParameters": [{"name": name, "reference": name} for name in space],
                "trialSpec": {
                    "apiVersion": "batch/v1",
                    "kind": "Job",
                    "spec": {"backoffLimit": 0, "template": {"spec": pod}},
                },
            },
        },
    }
    return held_to(models.V1beta1Experiment, body)


def held_to(model: Any, body: dict[str, Any]) -> dict[str, Any]:
    """Return the body as the API package's model writes it.

    Raises:
        LorefuseError: The model knows a field less, or takes a value otherwise than it was meant.
    """
    read = model.from_dict(body).to_dict()
    if read != body:
        raise LorefuseError(f"A {body['kind']} is not what its API says.", expected=str(read), got=str(body))
    return body


def _parameter(name: str, space: Range | Choice) -> dict[str, Any]:
    if isinstance(space, Choice):
        return {"name": name, "parameterType": "categorical", "feasibleSpace": {"list": list(space.values)}}
    ends = {"min": repr(space.low), "max": repr(space.high)}
    scale = {"distribution": "logUniform" if space.log else "uniform"}
    return {"name": name, "parameterType": "double", "feasibleSpace": {**ends, **scale}}


def _metadata(request: ResourceRequest) -> dict[str, Any]:
    labels = {"app.kubernetes.io/part-of": "lorefuse"}
    return {"name": request.name, "namespace": request.namespace, "labels": labels}


def _job_json(job: dict[str, Any]) -> str:
    return _json({**job, "config": job["config"].model_dump(mode="json")})


def _json(content: dict[str, Any]) -> str:
    return json.dumps(content, sort_keys=True, separators=(",", ":"))


def create(body: dict[str, Any], plural: str) -> None:
    """Create the resource on the cluster of the current kubeconfig, or of the pod this runs in.

    Raises:
        UsageError: There is no kubeconfig, or the API server refuses.
        UnreachableError: It does not answer.
    """
    import kubernetes
    import urllib3

    named = {"config_file": path} if (path := os.environ.get("KUBECONFIG")) else {}
    try:
        kubernetes.config.load_config(**named)
    except kubernetes.config.ConfigException as error:
        raise UsageError("There is no cluster to send to.", got=str(error), fix="set KUBECONFIG") from None
    group, version = body["apiVersion"].split("/")
    api, place = kubernetes.client.CustomObjectsApi(), body["metadata"]["namespace"]
    try:
        api.create_namespaced_custom_object(group, version, place, plural, body, _request_timeout=30)
    except kubernetes.client.ApiException as error:
        hints = {404: f"install it: there is no {plural}.{group}", 409: "choose another --name"}
        raise UsageError(
            f"The cluster refused the {body['kind']}.",
            got=f"{error.status} {error.reason}",
            fix=hints.get(error.status),
        ) from None
    except urllib3.exceptions.HTTPError as error:
        raise UnreachableError("The Kubernetes API server does not answer.", got=str(error)[:200]) from None


def main(arguments: list[str]) -> int:
    """Write, and where asked create, what a request asks for."""
    try:
        request = ResourceRequest.model_validate_json(arguments[0])
        make = {"trainjob": train_job, "katib": experiment}[request.resource]
        body = make(request, load_chosen(request.config_path), load_cluster(request.cluster_path))
        with atomic_file(request.yaml_path) as draft_path:
            draft_path.write_text(yaml.safe_dump(body, sort_keys=False, width=120), "utf-8")
        print(f"{body['kind']} {request.name}: {request.yaml_path}")
        if request.send:
            create(body, PLURAL[request.resource])
            print(f"created in namespace {request.namespace}")
    except LorefuseError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
