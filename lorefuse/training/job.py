"""One training as a job of its own: described by JSON, run in one process, in several, or by torchrun on a cluster.

``torchrun --nproc-per-node 2 -m lorefuse.training.job '{"rows_path": …}'`` is what `run_job` starts here and what a
TrainJob starts on Kubernetes. The ranker appears in `out_path` by one rename; a job that is killed and run again goes
on after its last checkpoint (`training.checkpoint_epochs`).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from pydantic import Field

from lorefuse.config import Arm, PipelineConfig, Section
from lorefuse.core.atomic import atomic_folder, sha256_json, write_json
from lorefuse.core.errors import ArtifactError, LorefuseError, UsageError
from lorefuse.core.settings import settings
from lorefuse.core.step_cache import code_digest, read_digest
from lorefuse.training.ema import LearningCurve
from lorefuse.training.train import Trained, arm_set, train

TRAINED_FILE = "trained.json"
MARK = "lorefuse: "
"""Stands before an error's message in what the processes print."""


class Job(Section):
    """What to train, and where the ranker goes."""

    rows_path: Path
    config: PipelineConfig
    arm: Arm = "real"
    seed: int = 0
    params: dict[str, Any] = Field(default_factory=dict)
    out_path: Path
    points_path: Path | None = None

    def checkpoint_path(self) -> Path:
        """Return the folder of this job's checkpoints: `points_path`, else the same for the same rows and settings."""
        if self.points_path is not None:
            return self.points_path
        sections = ("features", "model", "training")
        content = {name: getattr(self.config, name).model_dump(mode="json") for name in sections}
        content["training"] = {k: v for k, v in content["training"].items() if k != "max_epochs"}
        key = [content, self.arm, self.seed, self.params, read_digest(self.rows_path)]
        address = sha256_json([key, code_digest("features", "models", "training")])
        return settings().cache_path / "checkpoints" / address[:24]


def run_job(job: Job) -> Trained:
    """Train as a job says, in `training.num_processes` processes of this machine, and write its folder.

    Returns:
        The ranker with its learning curve; the same is in `job.out_path`.

    Raises:
        LorefuseError: The training failed; the message is that of the process that failed first.
    """
    if job.config.training.num_processes > 1:
        _launch(job)
    else:
        with atomic_folder(job.out_path) as draft_path:
            _write(_train(job), job, draft_path)
    shutil.rmtree(job.checkpoint_path(), ignore_errors=True)  # the finished ranker stands in `out_path`
    return read_trained(job.out_path)


def run_share(job: Job) -> None:
    """Train this process's share of a job that torchrun has started; the first process writes the folder."""
    from lorefuse.training.ddp import process_group

    with process_group(job.config.training.device) as rank:
        trained = _train(job)
        if rank == 0:
            with atomic_folder(job.out_path) as draft_path:
                _write(trained, job, draft_path)
            print(f"validation_score={trained.validation_score}", flush=True)


def read_trained(folder_path: Path) -> Trained:
    """Read what a job has written.

    Raises:
        ArtifactError: It holds no complete training.
    """
    from lorefuse.models.build import load_ranker

    ranker = load_ranker(folder_path)
    try:
        content = json.loads((folder_path / TRAINED_FILE).read_text("utf-8"))
        history = LearningCurve(content["history"], int(content["best_epoch"]), content.get("privacy"))
        return Trained(ranker, history, float(content["validation_score"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{folder_path} holds no complete training.", got=str(error)) from None


def _train(job: Job) -> Trained:
    from lorefuse.training.params import apply
    from lorefuse.training.pool import load_training_set

    training_set = arm_set(load_training_set(str(job.rows_path)), job.arm, job.config, job.seed)
    model, training = apply(job.config, job.params)
    training = training.model_copy(update={"num_threads": 1, "seed": job.seed})
    return train(training_set, model, training, checkpoint_path=job.checkpoint_path())


def _write(trained: Trained, job: Job, folder_path: Path) -> None:
    from lorefuse.models.build import save_ranker
    from lorefuse.training.params import apply

    save_ranker(trained.ranker, apply(job.config, job.params)[0], folder_path)
    history = trained.history
    content = {"history": history.epochs, "best_epoch": history.best_epoch, "privacy": history.privacy}
    write_json(folder_path / TRAINED_FILE, {**content, "validation_score": trained.validation_score})


def _launch(job: Job) -> None:
    """Start torchrun on this machine alone: one process a share, none restarted, gradients over the loopback."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "1", "--local-addr", "127.0.0.1"]
    command += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0", "--max-restarts", "0"]
    command += ["--nproc-per-node", str(job.config.training.num_processes), "-m", "lorefuse.training.job"]
    env = {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1", **os.environ}
    with tempfile.TemporaryFile("w+", encoding="utf-8") as errors:
        command.append(job.model_copy(update={"points_path": job.checkpoint_path()}).model_dump_json())
        done = subprocess.run(command, env=env, stderr=errors, stdout=subprocess.DEVNULL)  # noqa: S603
        errors.seek(0)
        text = errors.read()
    if done.returncode:
        said = text.split(MARK, 1)[1].split("\n\n", 1)[0] if MARK in text else text.strip()[-500:]
        raise LorefuseError(
            f"The training in {job.config.training.num_processes} processes failed.",
            got=said,
            fix="mend what it says, or free memory, and run again: it goes on after its last checkpoint",
        )


def main(arguments: list[str]) -> int:
    """Run the share of the job given as JSON; return the exit code."""
    if len(arguments) != 1:
        raise UsageError("A training job takes one argument.", expected="the job as JSON", got=f"{len(arguments)}")
    try:
        run_share(Job.model_validate_json(arguments[0]))
    except LorefuseError as error:
        print(f"{MARK}{error}\n", file=sys.stderr, flush=True)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
