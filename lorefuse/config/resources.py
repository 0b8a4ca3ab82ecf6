"""What is asked of Kubeflow's Trainer and of Katib: checked here, handed as JSON to `pipelines.resources`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from lorefuse.config.base import Section
from lorefuse.config.cluster import KubernetesName
from lorefuse.config.learning import Arm


class ResourceRequest(Section):
    """A Kubernetes resource for one training set."""

    resource: Literal["trainjob", "katib"] = Field(description="A TrainJob, or a Katib Experiment.")
    config_path: Path = Field(description="YAML preset.")
    rows_path: Path = Field(description="Training set folder, as pods see it.")
    out_path: Path | None = Field(None, description="Where the ranker goes, as pods see it (TrainJob).")
    arm: Arm = Field("real", description="Knowledge given to the model.")
    cluster_path: Path | None = Field(None, description="Cluster file: image, resources, secrets by name, storage.")
    name: KubernetesName = Field(description="Name of the resource.")
    namespace: KubernetesName = Field("default", description="Namespace.")
    num_nodes: int = Field(1, ge=1, description="Pods that share the training (TrainJob).")
    runtime: KubernetesName = Field("torch-distributed", description="ClusterTrainingRuntime (TrainJob).")
    num_parallel: int = Field(2, ge=1, description="Trials at a time (Katib).")
    yaml_path: Path = Field(description="Where the YAML goes.")
    send: bool = Field(False, description="Create it on the cluster of the current kubeconfig too.")
