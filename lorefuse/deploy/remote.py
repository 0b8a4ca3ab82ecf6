"""A Triton server that somebody else starts and stops, e.g. a pod: asked and told over gRPC alone."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import Any, Protocol

from lorefuse.client.admin import VARIABLE
from lorefuse.config import ReplicaConfig
from lorefuse.core.errors import DeployError, UnreachableError
from lorefuse.deploy.control import Control
from lorefuse.export.model_repository import ModelRepository


class Server(Protocol):
    """What a roll-out needs of a Triton server; `Supervisor` is one that this project runs itself."""

    @property
    def name(self) -> str:
        """What `lorefuse status` calls it."""

    @property
    def url(self) -> str:
        """Its gRPC address."""

    @property
    def admin_key(self) -> str:
        """What it asks of whoever loads models; empty: nothing."""

    @property
    def metrics_url(self) -> str:
        """Address of its metrics page."""

    @property
    def repository(self) -> ModelRepository:
        """Its model repository."""

    def start(self) -> dict[str, Any]:
        """Make sure that it runs; `adopted` tells whether it ran before."""

    def gone(self) -> bool:
        """Tell whether it is known to have ended, so that waiting for it is in vain."""

    def is_stopped(self) -> bool:
        """Tell whether somebody stopped it on purpose, so that it is not to be brought back."""

    def work_ns(self) -> dict[str, dict[int, int]]:
        """Return the nanoseconds that the processes of each model have run, by model and pid, as far as one can see.

        The server's own process stands under no name.
        """

    def restart(self) -> dict[str, Any]:
        """Bring it back to what the repository says, whatever state it is in."""

    def log_tail(self) -> str:
        """Return the end of its log, where that is within reach."""


@dataclass(frozen=True)
class RemoteServer:
    """One replica of the configuration.

    Attributes:
        name: What `lorefuse status` calls it.
        url: gRPC address.
        metrics_url: Address of its metrics page.
        repository: Its model repository, a folder that both sides see.
    """

    name: str
    url: str
    metrics_url: str
    repository: ModelRepository

    @property
    def admin_key(self) -> str:
        """The key of all replicas, from the environment."""
        return os.environ.get(VARIABLE, "")

    @classmethod
    def of(cls, config: ReplicaConfig) -> RemoteServer:
        """Make one from its section of the configuration."""
        return cls(config.name, config.url, config.metrics_url, ModelRepository(config.repository_path))

    def start(self) -> dict[str, Any]:
        """Make sure that it answers, and has loaded what the repository says (one that has just come back has not).

        Raises:
            UnreachableError: It does not answer; whoever runs it has to bring it back.
        """
        control = Control(self.url, self.admin_key)
        if not control.is_live():
            raise UnreachableError(
                f"Replica {self.name} does not answer.", expected=f"Triton at {self.url}", fix="start it, or remove it"
            )
        wanted = self.repository.all_configured()
        missing = [name for name in wanted if name not in control.versions()] if wanted else []
        for name in missing:
            control.load(name)
        return {"url": self.url, "adopted": not missing}

    def gone(self) -> bool:
        """Whoever runs it knows; from here it only does not answer."""
        return False

    def is_stopped(self) -> bool:
        """Whoever runs it knows."""
        return False

    def work_ns(self) -> dict[str, dict[int, int]]:
        """Its processes are elsewhere."""
        return {}

    def restart(self) -> dict[str, Any]:
        """Unload and load all models: new processes for all Python stubs, and a gap of as long as they take to load.

        Raises:
            UnreachableError: It does not answer.
            DeployError: A model does not load.
        """
        control = Control(self.url, self.admin_key)
        for name in reversed(self.repository.all_configured()):
            with contextlib.suppress(DeployError):  # what is not loaded cannot be unloaded
                control.unload(name)
        return self.start()

    def log_tail(self) -> str:
        """Its log is where it runs."""
        return f"(the log of replica {self.name} is where it runs)"
