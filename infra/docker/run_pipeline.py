"""Run the training pipeline with every step in a container of its own, on this machine's container engine.

    python infra/docker/run_pipeline.py --config my.yaml --image lorefuse-python:dev

The definition is the one that runs without containers and on a cluster (`pipelines/training.py`). Results come into
LOREFUSE_HOME, which the containers share with this machine. Deployment is left out: inside a container there is no
Triton to start; `lorefuse reconcile` follows the registry from outside.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

PROJECT_PATH = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(PROJECT_PATH), str(Path(__file__).parent)]

from container_runner import IMAGE_UID, ContainerOptions, trustworthy_containers  # noqa: E402

from lorefuse.config import PipelineConfig, load_config  # noqa: E402
from lorefuse.core.errors import LorefuseError, UnreachableError  # noqa: E402
from lorefuse.core.settings import settings  # noqa: E402

PASSED_PREFIXES = ("LOREFUSE_", "MLFLOW_", "AWS_", "HF_", "OMP_", "PG")
KEPT_HERE = ("LOREFUSE_HOME", "LOREFUSE_PROJECT", "LOREFUSE_IMAGE", "LOREFUSE_SERVE_PYTHON", "LOREFUSE_TERMINAL")
"""They name what is outside the containers; the image has its own."""


def container_options(home_path: Path, run_path: Path, readable: tuple[Path, ...]) -> ContainerOptions:
    """Return what each step's container gets: this user's id, or the image's where this is root.

    Args:
        home_path: LOREFUSE_HOME, shared with the containers.
        run_path: Artifacts of this run.
        readable: Folders with raw data.
    """
    uid, gid = os.getuid(), os.getgid()
    if uid == 0:
        uid = gid = IMAGE_UID
        for path in (home_path, run_path, run_path / "artifacts"):
            os.chown(path, uid, gid)
    passed = {name: value for name, value in os.environ.items() if name.startswith(PASSED_PREFIXES)}
    environment = {name: value for name, value in passed.items() if name not in KEPT_HERE}
    # Libraries ask for the user's name and home: a user id that the image does not know has neither.
    environment |= {"LOREFUSE_HOME": str(home_path), "HOME": str(home_path), "LOGNAME": "lorefuse", "USER": "lorefuse"}
    return ContainerOptions(f"{uid}:{gid}", environment, (home_path, run_path), readable)


def run(config: PipelineConfig, image: str, readable: tuple[Path, ...]) -> int:
    """Run the pipeline; one line a step on the terminal, everything else in the run's log.

    Returns:
        Exit code: 0, or that of the step that failed.

    Raises:
        UnreachableError: No engine answers, or it has no such image.
    """
    os.environ["LOREFUSE_IMAGE"] = image  # components read it when they are imported
    _check_image(image)
    from kfp import local

    from lorefuse.steps import dump_config
    from pipelines.run import StepLog
    from pipelines.training import training

    home_path = settings().home_path
    run_path = home_path / "runs" / datetime.now(UTC).strftime("%Y%m%d-%H%M%S-%f")
    (run_path / "artifacts").mkdir(parents=True)
    options = container_options(home_path, run_path, readable)
    arguments = {"strategy": config.split.strategy, "second_strategy": config.second_strategy, "serve": False}
    log_path, start_s = run_path / "pipeline.log", time.perf_counter()
    print(f"Running {config.name} in containers of {image} (log: {log_path})", flush=True)
    with log_path.open("w", encoding="utf-8") as file:
        log = StepLog(file, sys.stdout)
        try:
            with contextlib.redirect_stdout(log), contextlib.redirect_stderr(file), trustworthy_containers(options):
                local.init(local.DockerRunner(), pipeline_root=str(run_path / "artifacts"), raise_on_error=True)
                training(config=dump_config(config), **arguments)
        except RuntimeError as error:
            failed = log.error or {"step": "?", "message": f"{error}; see {log_path}", "exit_code": 1}
            print(f"Step {failed['step']} failed: {failed['message']}", file=sys.stderr)
            return int(failed["exit_code"])
    print(f"Done in {time.perf_counter() - start_s:.0f} s. Report: {home_path / 'report.html'}", flush=True)
    return 0


def _check_image(image: str) -> None:
    import docker

    try:
        client = docker.from_env()
        client.images.get(image)
        client.close()
    except docker.errors.DockerException as error:
        raise UnreachableError(
            "The image of the steps is not here.",
            expected=f"an engine that has {image}",
            got=str(error),
            fix="start the engine, and build the image as infra/docker/Dockerfile says",
        ) from None


def main() -> int:
    """Parse arguments and run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--config", type=Path, required=True, help="YAML preset")
    parser.add_argument("--image", default=settings().image, help="image of the steps (default: LOREFUSE_IMAGE)")
    parser.add_argument("--data", type=Path, action="append", default=[], help="folder of raw data, read-only")
    given = parser.parse_args()
    readable = (given.config.resolve().parent, *(path.resolve() for path in given.data))
    try:
        return run(load_config(given.config), given.image, readable)
    except LorefuseError as error:
        print(error, file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
