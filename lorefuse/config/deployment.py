"""How a registry's champion reaches its servers: the file that `lorefuse reconcile --config` reads.

It is a file of its own, not a section of a preset: how careful a roll-out is says nothing about the model, and must
not make another model version.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, model_validator

from lorefuse.config.base import Section


class ReplicaConfig(Section):
    """A Triton server that somebody else starts, e.g. a pod; its model repository is a folder that both can see."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$", description="Name in `lorefuse status`.")
    url: str = Field(min_length=3, description="gRPC address, host:port.")
    metrics_url: str = Field(min_length=8, description="Address of its metrics, e.g. http://host:8002/metrics.")
    repository_path: Path = Field(description="Its model repository, as seen from here.")


class GuardConfig(Section):
    """What a new version must hold to while it answers some users (canary) or none (shadow)."""

    min_requests: int = Field(50, ge=1, description="Requests that the new version must have answered to be judged.")
    max_error_rate: float = Field(0.01, ge=0, le=1, description="Largest share of its requests that may fail.")
    max_p99_ratio: float = Field(3.0, gt=0, description="Largest p99 latency, as a multiple of the old version's.")
    max_score_shift: float = Field(
        2.0, gt=0, description="Largest distance of the mean best score, in standard deviations of the old version's."
    )


class DeploymentConfig(Section):
    """The reconciler: what it watches, how often, and how a new version takes over."""

    model_name: str = Field("lorefuse-ranker", min_length=1, description="Registered model whose champion is served.")
    poll_s: float = Field(5.0, gt=0, le=3600, description="Seconds between two looks at the registry.")
    watch_s: float = Field(1.0, gt=0, le=60, description="Seconds between two canary inferences on each server.")
    max_latency_ratio: float = Field(
        5.0, gt=0, description="Largest median latency of a new version, as a multiple of the running one's."
    )
    latency_slack_ms: float = Field(10.0, ge=0, description="Milliseconds that a new version may always take more.")
    shadow_s: float = Field(
        0.0, ge=0, description="Seconds in which a new version gets a copy of each request; its answer is dropped."
    )
    canary_s: float = Field(0.0, ge=0, description="Seconds in which a new version answers a share of the users.")
    canary_share: float = Field(0.1, gt=0, lt=1, description="That share, chosen by a hash of the user id.")
    signed_by: Path | None = Field(
        None, description="PEM file of a public key; a version without its signature is refused (`lorefuse sign`)."
    )
    guard: GuardConfig = GuardConfig()
    replicas: tuple[ReplicaConfig, ...] = Field((), description="Servers started by others; none: the project's own.")

    @model_validator(mode="after")
    def _names_differ(self) -> DeploymentConfig:
        names = [replica.name for replica in self.replicas]
        if len(set(names)) != len(names):
            raise ValueError(f"replicas must have names of their own, got {names}")
        return self
