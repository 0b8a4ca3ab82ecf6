"""Checkpoints of a training run, an epoch each: weights and optimiser as safetensors, the rest as JSON, no pickle.

A checkpoint appears by one rename, the older ones go only then, and what is resumed ends as an undisturbed run would,
bit for bit: the states of both random generators are part of it.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from lorefuse.core.atomic import atomic_folder, write_json
from lorefuse.core.errors import ArtifactError
from lorefuse.models.ranker import Ranker
from lorefuse.training.ddp import in_group
from lorefuse.training.ema import LearningCurve
from lorefuse.training.optimizer import Optimizer

TENSORS_FILE, FACTS_FILE = "state.safetensors", "state.json"


@dataclass
class Progress:
    """How far a training run has come.

    Attributes:
        best_weights: The state of the best epoch's ranker.
        best_score: Its validation score.
        history: Learning curve.
    """

    best_weights: dict[str, Tensor]
    best_score: float = -np.inf
    history: LearningCurve = field(default_factory=LearningCurve)


class Checkpoints:
    """A folder of checkpoints of one run.

    Args:
        folder_path: Belongs to this run alone; processes on several machines must share it.
        ranker: In training.
        optimizer: Of the ranker's parameters, with their average; settled whenever a checkpoint is written.
        generator: Draws the order of rows.
        device: Where the ranker is.
    """

    def __init__(
        self,
        folder_path: Path,
        ranker: Ranker,
        optimizer: Optimizer,
        generator: torch.Generator,
        device: torch.device,
    ) -> None:
        self._folder_path, self._ranker, self._average = folder_path, ranker, optimizer.average
        self._optimizer, self._generator, self._device = optimizer, generator, device

    def save(self, run: Progress) -> None:
        """Write a checkpoint after an epoch; in a process group the first process does, the others have the same."""
        if in_group() and dist.get_rank():
            return
        from safetensors.torch import save_file

        tensors = {f"ranker.{name}": value for name, value in self._ranker.state_dict().items()}
        if self._average.ranker is not self._ranker:
            tensors |= {f"average.{name}": value for name, value in self._average.ranker.named_parameters()}
        tensors |= {f"best.{name}": value for name, value in run.best_weights.items()}
        tensors |= {f"optimizer.{name}": value for name, value in self._optimizer.state().items()}
        tensors["random.order"], tensors["random.dropout"] = self._generator.get_state(), torch.get_rng_state()
        if self._device.type == "cuda":
            tensors["random.cuda"] = torch.cuda.get_rng_state(self._device)
        facts = {
            "epochs": run.history.epochs,
            "best_epoch": run.history.best_epoch,
            "best_score": run.best_score,
            "num_updates": self._average.num_updates,
        }
        path = self._folder_path / f"epoch-{len(run.history.epochs):06}"
        with atomic_folder(path) as draft_path:
            # Copies: a state may hold two names for the same memory, which safetensors refuses.
            save_file({k: v.detach().cpu().clone().contiguous() for k, v in tensors.items()}, draft_path / TENSORS_FILE)
            write_json(draft_path / FACTS_FILE, facts)
        for old_path in self._folder_path.glob("epoch-*"):
            if old_path.name < path.name:
                shutil.rmtree(old_path)

    def resume(self) -> Progress | None:
        """Bring ranker, average, optimiser and generators to the last checkpoint; None where there is none.

        Raises:
            ArtifactError: It is damaged or belongs to another ranker, or not all processes see the same one.
        """
        path = max(self._folder_path.glob("epoch-*"), default=None)
        self._check_same(0 if path is None else int(path.name.removeprefix("epoch-")))
        if path is None:
            return None
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            facts = json.loads((path / FACTS_FILE).read_text("utf-8"))
            return self._restore(load_file(path / TENSORS_FILE), facts)
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            raise ArtifactError(
                f"The checkpoint {path} cannot be used.",
                expected="one of this ranker, whole",
                got=str(error).splitlines()[0],
                fix=f"delete {self._folder_path} and run again",
            ) from None

    def _restore(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> Progress:
        self._ranker.load_state_dict(_below("ranker.", tensors))
        if self._average.ranker is not self._ranker:
            averaged = _below("average.", tensors)
            with torch.no_grad():
                for name, parameter in self._average.ranker.named_parameters():
                    parameter.copy_(averaged[name])
        self._optimizer.restore(_below("optimizer.", tensors))
        self._generator.set_state(tensors["random.order"])
        torch.set_rng_state(tensors["random.dropout"])
        if self._device.type == "cuda":
            torch.cuda.set_rng_state(tensors["random.cuda"], self._device)
        self._average.num_updates = int(facts["num_updates"])
        best_weights = {name: value.to(self._device) for name, value in _below("best.", tensors).items()}
        return Progress(
            best_weights, float(facts["best_score"]), LearningCurve(facts["epochs"], int(facts["best_epoch"]))
        )

    def _check_same(self, epoch: int) -> None:
        if not in_group():
            return
        own = torch.tensor([epoch], device=self._device)
        seen = [torch.empty_like(own) for _ in range(dist.get_world_size())]
        dist.all_gather(seen, own)
        epochs = [int(one) for one in seen]
        if len(set(epochs)) > 1:
            raise ArtifactError(
                f"The processes see different checkpoints in {self._folder_path}.",
                expected="one folder that all machines share",
                got=f"epochs {epochs}",
                fix="set LOREFUSE_HOME to shared storage (a ReadWriteMany claim), or training.checkpoint_epochs: 0",
            )


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
