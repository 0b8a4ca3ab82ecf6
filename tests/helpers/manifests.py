"""Reads rendered Kubernetes manifests: objects by kind, pods of workloads, what a label selector matches."""

from __future__ import annotations

import functools
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

OVERLAYS = ("cpu", "gpu")
WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet", "Job")
Manifest = dict[str, Any]


@functools.cache
def render(kubectl: str, path: Path) -> str:
    """Return what ``kubectl kustomize`` makes of a folder; no cluster is asked."""
    run = subprocess.run([kubectl, "kustomize", str(path)], capture_output=True, text=True, check=False, timeout=120)
    assert run.returncode == 0, run.stderr
    return run.stdout


class Manifests:
    """The objects of one rendering."""

    def __init__(self, text: str) -> None:
        self.objects: list[Manifest] = [document for document in yaml.safe_load_all(text) if document]

    def of(self, *kinds: str) -> list[Manifest]:
        """Objects of some kinds."""
        return [one for one in self.objects if one["kind"] in kinds]

    def one(self, kind: str, name: str) -> Manifest:
        """The object of a kind and a name."""
        (found,) = [one for one in self.of(kind) if one["metadata"]["name"] == name]
        return found

    def pods(self) -> list[tuple[str, Manifest]]:
        """Name and pod template of every workload."""
        return [(one["metadata"]["name"], one["spec"]["template"]) for one in self.of(*WORKLOADS)]

    def containers(self, *, init: bool = True) -> Iterator[tuple[str, Manifest]]:
        """`workload/container` and the container itself."""
        for name, pod in self.pods():
            kinds = ("containers", "initContainers") if init else ("containers",)
            for container in (one for kind in kinds for one in pod["spec"].get(kind, ())):
                yield f"{name}/{container['name']}", container

    def matching(self, selector: Manifest) -> list[tuple[str, Manifest]]:
        """Workloads whose pods a label selector picks."""
        return [(name, pod) for name, pod in self.pods() if matches(selector, pod["metadata"].get("labels", {}))]


def matches(selector: Manifest, labels: Manifest) -> bool:
    """Tell whether a label selector picks an object with these labels."""
    if any(labels.get(key) != value for key, value in selector.get("matchLabels", {}).items()):
        return False
    return all(_holds(expression, labels) for expression in selector.get("matchExpressions", ()))


def _holds(expression: Manifest, labels: Manifest) -> bool:
    key, operator, values = expression["key"], expression["operator"], expression.get("values", ())
    answers = {
        "In": labels.get(key) in values,
        "NotIn": labels.get(key) not in values,
        "Exists": key in labels,
        "DoesNotExist": key not in labels,
    }
    return answers[operator]


def port_names(pod: Manifest) -> dict[str, int]:
    """Names and numbers of the ports of a pod's containers."""
    return {port["name"]: port["containerPort"] for one in pod["spec"]["containers"] for port in one.get("ports", ())}


def is_pinned(image: str) -> bool:
    """Tell whether an image carries a tag that names one version, or a digest."""
    if "@sha256:" in image:
        return True
    _, colon, tag = image.rpartition("/")[2].partition(":")
    return bool(colon) and any(sign.isdigit() for sign in tag) and tag not in ("latest", "stable", "main")
