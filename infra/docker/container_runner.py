"""kfp's DockerRunner with exit codes that can be believed.

kfp starts a step's container with `auto_remove` and asks for its exit code after its log has ended. A container that is
gone by then answers "not found", which kfp takes for success: a step that failed fast is reported as SUCCESS. Here the
container stays until its exit code was read, and is removed after that.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

IMAGE_UID = 10001
"""User of the image; see infra/docker/Dockerfile."""


@dataclass(frozen=True)
class ContainerOptions:
    """What every step's container gets beside its command.

    Attributes:
        user: ``uid:gid`` that the step runs as.
        environment: Variables; a variable that the step sets itself goes before these.
        writable: Folders mounted for writing, at the path that they have here.
        readable: Folders mounted for reading, likewise.
        network: Network mode; ``host`` lets a step reach servers on this machine's loopback address.
    """

    user: str = f"{IMAGE_UID}:{IMAGE_UID}"
    environment: Mapping[str, str] = field(default_factory=dict)
    writable: tuple[Path, ...] = ()
    readable: tuple[Path, ...] = ()
    network: str = "host"


@contextlib.contextmanager
def trustworthy_containers(options: ContainerOptions) -> Iterator[None]:
    """Let kfp's DockerRunner start its containers as `run_container` does, inside the ``with`` block."""
    from kfp.local import docker_task_handler as handler

    def run(client: DockerClient, image: str, command: list[str], volumes: dict[str, Any], **more: Any) -> int:
        return run_container(client, image, command, volumes, options, **more)

    stock = handler.run_docker_container
    handler.run_docker_container = run
    try:
        yield
    finally:
        handler.run_docker_container = stock


def run_container(
    client: DockerClient,
    image: str,
    command: list[str],
    volumes: Mapping[str, Any],
    options: ContainerOptions,
    **more: Any,
) -> int:
    """Run one step to its end: start, print its log, wait, read the exit code, remove; in this order.

    Args:
        client: Connection to the engine.
        image: Image of the step. It is not pulled: what was built here must not be mixed with what a registry has.
        command: Entry point and arguments.
        volumes: Mounts that kfp asks for, as docker's Python package takes them.
        options: What the step gets beside.
        more: Further arguments of ``containers.create``.

    Returns:
        The exit code of the container; 137 where it was killed, e.g. for memory.

    Raises:
        docker.errors.ImageNotFound: There is no such image here.
    """
    mounts = {str(path): {"bind": str(path), "mode": "rw"} for path in options.writable}
    mounts |= {str(path): {"bind": str(path), "mode": "ro"} for path in options.readable if str(path) not in mounts}
    environment = {**options.environment, **more.pop("environment", {})}
    container = client.containers.create(
        image=image,
        command=command,
        volumes={**mounts, **volumes},
        environment=environment,
        user=options.user,
        network_mode=options.network,
        auto_remove=False,
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
        **more,
    )
    try:
        container.start()
        _print_log(container)
        return int(container.wait()["StatusCode"])
    finally:
        container.remove(force=True)


def _print_log(container: Container) -> None:
    """Print what the container says, line by line; what follows the last line's end too."""
    pending = b""
    for chunk in container.logs(stream=True, follow=True):
        *lines, pending = (pending + chunk).split(b"\n")
        for line in lines:
            print(line.decode("utf-8", "replace"))
    if pending:
        print(pending.decode("utf-8", "replace"))
