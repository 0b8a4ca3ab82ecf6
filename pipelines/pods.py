"""What a cluster file gives a pod that no pipeline starts: variables, secrets by reference, storage, resources."""

from __future__ import annotations

from typing import Any

from lorefuse.config.cluster import ClusterConfig, secrets_of
from lorefuse.core.settings import settings
from pipelines.platform import HOME_VARIABLE

VOLUME = "lorefuse-home"


def image_of(cluster: ClusterConfig) -> str:
    """Return the image of the pods."""
    return cluster.image or settings().image


def env_of(cluster: ClusterConfig, step: str) -> list[dict[str, Any]]:
    """Return a step's environment variables; a secret is named, its value never appears."""
    plain = {**cluster.env, HOME_VARIABLE: cluster.storage.mount_path}
    named = [
        {"name": variable, "valueFrom": {"secretKeyRef": {"name": s.name, "key": key, "optional": s.optional}}}
        for s in secrets_of(cluster, step)
        for key, variable in sorted(s.keys.items())
    ]
    return [{"name": name, "value": value} for name, value in sorted(plain.items())] + named


def resources_of(cluster: ClusterConfig, step: str) -> dict[str, Any]:
    """Return requests and limits of a step, an accelerator among them where the step gets one."""
    given = cluster.steps.get(step, cluster.default)
    limits = {"cpu": given.cpu_limit, "memory": given.memory_limit}
    if cluster.gpu is not None and step in cluster.gpu.steps:
        limits[cluster.gpu.resource] = str(cluster.gpu.count)
    return {"requests": {"cpu": given.cpu_request, "memory": given.memory_request}, "limits": limits}


def pod_of(cluster: ClusterConfig, step: str) -> dict[str, Any]:
    """Return what a pod's spec holds beside its containers: storage, user, accounts, place."""
    storage, gpu = cluster.storage, cluster.gpu
    held = {"persistentVolumeClaim": {"claimName": storage.pvc}} if storage.pvc else {
        "emptyDir": {"sizeLimit": storage.scratch_size}
    }  # fmt: skip
    user = {"runAsNonRoot": True, "runAsUser": cluster.user_id, "runAsGroup": cluster.user_id}
    spec: dict[str, Any] = {"volumes": [{"name": VOLUME, **held}], "securityContext": user}
    if cluster.service_account:
        spec["serviceAccountName"] = cluster.service_account
    if cluster.image_pull_secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in cluster.image_pull_secrets]
    if gpu is not None and step in gpu.steps:
        spec["tolerations"] = [toleration.model_dump(exclude_none=True) for toleration in gpu.tolerations]
        if gpu.node_selector:
            spec["nodeSelector"] = dict(gpu.node_selector)
    return spec


def mounts_of(cluster: ClusterConfig) -> list[dict[str, str]]:
    """Return where a container sees the storage."""
    return [{"name": VOLUME, "mountPath": cluster.storage.mount_path}]
