"""What a cluster gives each step: image, CPU, memory, GPUs, secrets by name, storage, retries and timeouts.

It belongs to a place and not to a run, so it is a file of its own (``lorefuse compile --cluster cluster.yaml``). It
names Kubernetes secrets and never holds their values.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from lorefuse.config.base import Section
from lorefuse.config.load import _explain
from lorefuse.core.errors import ConfigError

Cpu = Annotated[str, Field(pattern=r"^\d+(\.\d+)?$|^\d+m$")]
Memory = Annotated[str, Field(pattern=r"^\d+(\.\d+)?([KMGT]i?)?$")]
EnvName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
KubernetesName = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=253)]

_SECRET_WORDS = re.compile(r"password|passwd|secret|token|credential|(^|_)key($|_)", re.IGNORECASE)
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_UNITS |= {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


def cores(text: str) -> float:
    """Return a Kubernetes CPU quantity (``500m``, ``2``) in cores."""
    return float(text[:-1]) / 1000 if text.endswith("m") else float(text)


def memory_bytes(text: str) -> float:
    """Return a Kubernetes memory quantity (``512Mi``, ``2G``) in bytes."""
    number = text.rstrip("KMGTi")
    return float(number) * _UNITS[text[len(number) :]]


class Resources(Section):
    """What one step asks for and may use at most, and how often it is tried."""

    cpu_request: Cpu = Field("500m", description="Cores that the scheduler reserves.")
    cpu_limit: Cpu = Field("2", description="Cores it may use at most.")
    memory_request: Memory = Field("1Gi", description="Memory that the scheduler reserves.")
    memory_limit: Memory = Field("4Gi", description="Memory beyond which it is killed.")
    timeout_s: int = Field(3600, ge=1, description="Seconds after which the pod is stopped (active deadline).")
    num_retries: int = Field(2, ge=0, le=10, description="How often a failed step is tried again.")

    @model_validator(mode="after")
    def _limits_hold_requests(self) -> Resources:
        if cores(self.cpu_request) > cores(self.cpu_limit):
            raise ValueError(f"cpu_request {self.cpu_request} must not exceed cpu_limit {self.cpu_limit}")
        if memory_bytes(self.memory_request) > memory_bytes(self.memory_limit):
            raise ValueError(f"memory_request {self.memory_request} must not exceed memory_limit {self.memory_limit}")
        return self


class SecretEnv(Section):
    """A Kubernetes secret whose keys become environment variables of every step, or of those that are named."""

    name: KubernetesName = Field(description="Name of the secret in the pipeline's namespace.")
    keys: dict[str, EnvName] = Field(min_length=1, description="Key of the secret → environment variable.")
    optional: bool = Field(False, description="Start the step even where the secret does not exist.")
    steps: tuple[str, ...] = Field(
        (),
        description="Steps that get it, in the place of a secret of all steps that sets the same variable; none: all.",
    )


class Toleration(Section):
    """A taint of a node that a GPU step may ignore."""

    key: str = Field("nvidia.com/gpu", min_length=1, description="Key of the taint.")
    operator: Literal["Exists", "Equal"] = Field("Exists", description="`Equal` compares `value` too.")
    value: str | None = Field(None, description="Value of the taint, with `Equal`.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] = Field("NoSchedule", description="Its effect.")


class GpuConfig(Section):
    """Accelerators for the steps that profit."""

    resource: str = Field("nvidia.com/gpu", min_length=1, description="Kubernetes resource name of the accelerator.")
    count: int = Field(1, ge=1, description="Accelerators per step.")
    steps: tuple[str, ...] = Field(("embed", "tune", "evaluate"), min_length=1, description="Steps that get them.")
    tolerations: tuple[Toleration, ...] = Field((Toleration(),), description="Taints these steps ignore.")
    node_selector: dict[str, str] = Field({}, description="Labels a node must have for these steps.")


class StorageConfig(Section):
    """Where steps keep their cache, and where the pipeline keeps artifacts."""

    pvc: KubernetesName | None = Field(
        None,
        description="Existing ReadWriteMany claim that holds the shared home; without it each pod has scratch space.",
    )
    mount_path: str = Field("/var/lib/lorefuse", pattern=r"^/.+[^/]$", description="LOREFUSE_HOME inside the steps.")
    scratch_size: Memory = Field("20Gi", description="Size limit of the scratch space where there is no claim.")
    pipeline_root: str | None = Field(
        None,
        pattern=r"^(s3|gs|minio)://[^/]+",
        description="Object-store root of artifacts, e.g. s3://bucket/lorefuse.",
    )


class BackoffConfig(Section):
    """Pauses between two tries of a step: first, then times `factor`."""

    first_s: int = Field(30, ge=1, description="Seconds before the first retry.")
    factor: int = Field(2, ge=1, description="Growth of the pause; a whole number, as Argo wants it.")

    def total_s(self, num_retries: int, timeout_s: int) -> int:
        """Return how long all tries of a step and the pauses between them may take together, in seconds."""
        pauses = [self.first_s * int(self.factor**number) for number in range(num_retries)]
        return (num_retries + 1) * timeout_s + sum(pauses)


def _default_steps() -> dict[str, Resources]:
    heavy = Resources(cpu_request="2", cpu_limit="8", memory_request="4Gi", memory_limit="16Gi", timeout_s=6 * 3600)
    return {"embed": heavy, "choose": heavy, "tune": heavy, "evaluate": heavy}


class ClusterConfig(Section):
    """Everything about the cluster that the compiled pipeline carries."""

    image: str | None = Field(None, min_length=1, description="Image of all steps; default: LOREFUSE_IMAGE.")
    image_pull_policy: Literal["Always", "Never", "IfNotPresent"] = Field("IfNotPresent", description="As Kubernetes'.")
    image_pull_secrets: tuple[KubernetesName, ...] = Field((), description="Secrets of the image registry, by name.")
    user_id: int = Field(10001, ge=1, description="User and group that the image's steps run as; never root.")
    service_account: KubernetesName | None = Field(
        None, description="Service account that runs are started with; null: the one that Kubeflow gives a profile."
    )
    env: dict[EnvName, str] = Field(
        {}, description="Variables of every step that are no secrets, e.g. server addresses."
    )
    secrets: tuple[SecretEnv, ...] = Field((), description="Secrets that become variables, by name.")
    storage: StorageConfig = StorageConfig()
    gpu: GpuConfig | None = Field(None, description="Accelerators; none unless this section is there.")
    default: Resources = Field(Resources(), description="What a step gets that `steps` does not name.")
    steps: dict[str, Resources] = Field(default_factory=_default_steps, description="Step → resources of its own.")
    backoff: BackoffConfig = BackoffConfig()
    uncached: tuple[str, ...] = Field(
        ("ingest", "register", "deploy", "report_failure"),
        description="Steps that read or change the world and so always run.",
    )

    @model_validator(mode="after")
    def _holds_no_secret(self) -> ClusterConfig:
        named = sorted(name for name in self.env if _SECRET_WORDS.search(name))
        if named:
            raise ValueError(f"env must hold no secrets ({', '.join(named)}): name a Kubernetes secret under `secrets`")
        return self


def secrets_of(cluster: ClusterConfig, step: str) -> list[SecretEnv]:
    """Return the secrets of a step: those that name it, and of the others what these leave unset."""
    own = [secret for secret in cluster.secrets if step in secret.steps]
    taken = {variable for secret in own for variable in secret.keys.values()}
    found = []
    for secret in (one for one in cluster.secrets if not one.steps):
        left = {key: variable for key, variable in secret.keys.items() if variable not in taken}
        if left:
            found.append(secret.model_copy(update={"keys": left}))
    return found + own


def load_cluster(path: Path | None) -> ClusterConfig:
    """Read a cluster file; None gives the defaults.

    Raises:
        ConfigError: The file is missing, not YAML, or does not validate; all mistakes named.
    """
    if path is None:
        return ClusterConfig()
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"There is no cluster file {path}.", fix="start from pipelines/clusters/cpu.yaml") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} could not be read.", expected="a YAML file in UTF-8", got=str(error)) from None
    try:
        return ClusterConfig.model_validate(content or {})
    except ValidationError as error:
        raise ConfigError(f"{path} cannot be used.\n" + _explain(error)) from None
