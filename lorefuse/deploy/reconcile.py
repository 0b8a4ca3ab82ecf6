"""The reconciler: the registry's alias is what should be served, Triton's index is what is; it closes the difference.

One thread watches the registry, one follows it for each server; none waits for another. It may be killed at any
moment: what it knows is on disk, and what it was doing is found in the model repository.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from lorefuse.config import DeploymentConfig
from lorefuse.core.errors import UsageError
from lorefuse.core.settings import settings
from lorefuse.deploy.control import Control
from lorefuse.deploy.desired import RegistryWatcher
from lorefuse.deploy.remote import RemoteServer, Server
from lorefuse.deploy.replica import Follower
from lorefuse.deploy.state import ServerState, Stage, now
from lorefuse.deploy.supervisor import Supervisor

LOCK_FILE, VERSIONS_FOLDER = "reconciler.lock", "versions"
TAG_LENGTH = 4000
_RANK = (Stage.REJECTED, Stage.ROLLED_BACK, Stage.SHADOW, Stage.CANARY, Stage.STANDBY, Stage.LIVE)
"""With several servers a version's state is that of the one that is furthest from serving it."""
_log = logging.getLogger(__name__)


def servers_of(config: DeploymentConfig) -> list[Server]:
    """Return the servers of a configuration: its replicas, or the project's own Triton."""
    return [RemoteServer.of(replica) for replica in config.replicas] if config.replicas else [Supervisor()]


class Reconciler:
    """Keeps servers at what the registry wants.

    Args:
        config: What to watch, and how careful to be.
        servers: The servers; default: those of the configuration.
        folder_path: Where fetched versions and the lock are kept; default: the home's `serve/`.

    Attributes:
        num_reports: How often a version came to a stage, by server and stage.
    """

    def __init__(
        self, config: DeploymentConfig, servers: Sequence[Server] | None = None, folder_path: Path | None = None
    ) -> None:
        self.config = config
        self.folder_path = folder_path or settings().serve_path
        versions_path = self.folder_path / VERSIONS_FOLDER
        self.watcher = RegistryWatcher(config.model_name, versions_path, config.poll_s, config.signed_by)
        self.followers = [Follower(server, config, self._report) for server in servers or servers_of(config)]
        self.num_reports: Counter[tuple[str, str]] = Counter()
        self._stages: dict[int, dict[str, tuple[Stage, str]]] = {}
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._threads: list[threading.Thread] = []

    @property
    def states(self) -> list[ServerState]:
        """What is known of each server."""
        return [follower.state for follower in self.followers]

    def start(self) -> None:
        """Begin to watch and follow, in threads; `close` ends them."""
        self.folder_path.mkdir(parents=True, exist_ok=True)
        self.watcher.start()
        for follower in self.followers:
            name = f"follow-{follower.server.name}"
            thread = threading.Thread(target=self._follow, args=(follower,), name=name, daemon=True)
            thread.start()
            self._threads.append(thread)

    def close(self) -> None:
        """End all threads after what they are doing; the servers go on."""
        self._ended.set()
        self.watcher.close()
        for thread in (*self._threads, self.watcher):
            thread.join(60)
        self.watcher.write()

    def once(self) -> list[ServerState]:
        """Look at the registry once, let each server take its next step, and write the tags.

        Returns:
            The state of each server.
        """
        self.folder_path.mkdir(parents=True, exist_ok=True)
        self.watcher.look()
        for follower in self.followers:
            follower.tick(self.watcher.desired, self.watcher.problem)
        self.watcher.write()
        return self.states

    def _follow(self, follower: Follower) -> None:
        while not self._ended.is_set():
            if self.watcher.num_looks:  # before the first look nobody knows what is wanted
                before = self.watcher.desired
                follower.tick(before, self.watcher.problem)
                if self.watcher.desired is not before:
                    continue
            self._ended.wait(self.config.watch_s if self.watcher.num_looks else 0.05)

    def _report(self, server: str, version: int, stage: Stage, reason: str) -> None:
        """Write a version's state back to the registry, over all servers."""
        _log.info("%s: version %s is %s: %s", server, version, stage, reason)
        with self._lock:
            self.num_reports[server, stage.value] += 1
            stages = self._stages.setdefault(version, {})
            stages[server] = (stage, reason)
            worst = min(stages.values(), key=lambda entry: _RANK.index(entry[0]))
            if worst[0] == Stage.LIVE and len(stages) < len(self.followers):
                worst = (Stage.CANARY, f"live on {len(stages)} of {len(self.followers)} servers")
            content = {name: entry[0].value for name, entry in sorted(stages.items())}
        triton = next((Control(f.server.url).triton_version() for f in self.followers if f.server.name == server), "")
        tags = {
            "state": worst[0].value,
            "reason": worst[1][:TAG_LENGTH],
            "time": now(),
            "servers": json.dumps(content),
            **({"triton_version": triton} if triton else {}),
        }
        self.watcher.tag(version, tags)
        self.watcher.hint()


@contextlib.contextmanager
def only_one(folder_path: Path) -> Iterator[None]:
    """Hold the reconciler's lock: two of them would pull at the same servers.

    Raises:
        UsageError: Another one runs.
    """
    folder_path.mkdir(parents=True, exist_ok=True)
    with (folder_path / LOCK_FILE).open("a") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UsageError("A reconciler already runs here.", got=str(folder_path), fix="end it first") from None
        yield


def is_running(folder_path: Path | None = None) -> bool:
    """Tell whether a reconciler runs here: then it deploys, and nobody else should."""
    path = (folder_path or settings().serve_path) / LOCK_FILE
    if not path.is_file():
        return False
    with path.open("a") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    return False
