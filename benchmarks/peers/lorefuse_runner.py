"""Ours, behind the same door as the peers; with `LOREFUSE_AS_SHIPPED=1` it trains with our defaults."""

from __future__ import annotations

import json
import os
import resource
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from protocol import TEST, VALIDATION, Job, Rows, Timed, Work, serve, timed

from lorefuse.config import DCNV2Config, DeepFMConfig, DINConfig, ModelConfig, PipelineConfig, TrainingConfig
from lorefuse.core.schema import SPLIT_CODES, Split
from lorefuse.cpu.allocator import keep_freed_memory
from lorefuse.models.build import build_ranker
from lorefuse.training import loop
from lorefuse.training.batches import Batches
from lorefuse.training.optimizer import Optimizer
from lorefuse.training.order import Drawn
from lorefuse.training.params import apply
from lorefuse.training.row_metrics import auc, logloss
from lorefuse.training.train import score_rows, train
from lorefuse.training_set.arrays import TrainingSet
from lorefuse.training_set.spec import CategoricalField, FeatureSpec
from lorefuse.tuning import space as space_module
from lorefuse.tuning import study

CONFIGS = {"deepfm": DeepFMConfig, "dcn_v2": DCNV2Config, "din": DINConfig}
PARTS = (Split.TRAIN, Split.VALIDATION, Split.TEST, Split.EXCLUDED)
AS_SHIPPED = os.environ.get("LOREFUSE_AS_SHIPPED") == "1"


class LorefuseRunner:
    """Trains with `training.train.train`; an epoch with `training.loop.fit`, gathering of batches included."""

    def __init__(self, rows: Rows, job: Job, scratch_path: Path) -> None:
        self.rows, self.job, self.scratch_path = rows, job, scratch_path
        self.training_set = training_set_of(rows, with_history=job.family == "din")
        self._state: Any = None

    def model_config(self) -> ModelConfig:
        """Return the family with the shared hyper-parameters."""
        shared = {
            "embedding_dim": self.job.embedding_dim,
            "hidden_dims": self.job.hidden_dims,
            "dropout": self.job.dropout,
        }
        if not AS_SHIPPED:
            shared["id_dropout"] = 0.0
        if self.job.family == "dcn_v2":
            shared["num_cross_layers"] = self.job.num_cross_layers
        if self.job.family == "din":
            shared["history_length"] = self.rows.history.shape[1]
        return CONFIGS[self.job.family](**shared)

    def training_config(self, seed: int, max_epochs: int) -> TrainingConfig:
        """Return the loop's settings: plain Adam, unless the defaults are asked for."""
        shared = {"batch_size": self.job.batch_size, "patience": self.job.patience, "max_epochs": max_epochs}
        if not AS_SHIPPED:
            plain = {"embedding_l2": 0.0, "weight_decay": 0.0, "ema_decay": 0.0}
            shared |= {"learning_rate": self.job.learning_rate, **plain}
        return TrainingConfig(**shared, num_threads=self.job.num_threads, seed=seed)

    def fit(self, seed: int) -> NDArray[np.float32]:
        """Train, stopping on the validation logloss."""
        training = self.training_config(seed, self.job.max_epochs)
        trained = train(self.training_set, self.model_config(), training)
        return score_rows(trained.ranker, self.training_set, self.rows.of(TEST))

    def tune(self, space: dict[str, Any], num_trials: int, at_a_time: int, seed: int) -> dict[str, Any]:
        """Run `tuning.study.tune` with pruning over some of its ranges.

        Args:
            space: Name → lowest and highest value, and whether it is drawn on a logarithmic scale.
            num_trials: Trials.
            at_a_time: Processes side by side; 1: all in this one.
            seed: Of sampler and trainings.

        Returns:
            Wall and CPU seconds (those of its processes too), epochs, the states of the trials, and of the best trial
            the parameters, trained again: its validation logloss and AUC.
        """
        rows_path, out_path = (Path(tempfile.mkdtemp(dir=self.scratch_path)) for _ in range(2))
        self.training_set.save(rows_path)
        training = self.training_config(seed, self.job.max_epochs)
        config = PipelineConfig(
            model=self.model_config(),
            training=training,
            tuning={"num_trials": num_trials, "pruning": True, "seed": seed},
        )
        searched, ranges, study.TRIALS_AT_A_TIME = dict(space_module.RANGES), space_module.RANGES, at_a_time
        ranges.clear(), ranges.update({name: tuple(ends) for name, ends in space.items()})
        start = time.perf_counter(), _cpu_s()
        try:
            study.tune(rows_path, config, "real", out_path)
        finally:
            wall_s, cpu_s = time.perf_counter() - start[0], _cpu_s() - start[1]
            ranges.clear(), ranges.update(searched)
        content = json.loads((out_path / study.STUDY_FILE).read_text("utf-8"))
        model, training = apply(config, content["best_params"])
        trained = train(self.training_set, model, training)
        scores = score_rows(trained.ranker, self.training_set, self.rows.of(VALIDATION)).astype(np.float64)
        label = self.rows.label[self.rows.of(VALIDATION)]
        return {
            "wall_s": wall_s,
            "cpu_s": cpu_s,
            "num_epochs": sum(trial["num_epochs"] for trial in content["trials"]),
            "states": dict(Counter(trial["state"] for trial in content["trials"])),
            "params": content["best_params"],
            "logloss": logloss(label.astype(np.float64), scores),
            "auc": auc(label, scores),
        }

    def epoch(self, work: Work) -> Timed:
        """Run one epoch of the loop: shuffling, gathering, weight average; `work` changes nothing."""
        keep_freed_memory()  # as `fit` does
        torch.set_num_threads(self.job.num_threads)
        if self._state is None:
            ranker = build_ranker(self.model_config(), self.training_set.spec, seed=0)
            ranker.prepare(self.training_set)
            training = self.training_config(0, 1)
            batches = Batches(self.training_set, torch.device("cpu"))
            self._state = (ranker, batches, Optimizer(ranker, training), training)
        ranker, batches, optimizer, training = self._state
        train_rows = torch.from_numpy(self.training_set.rows_of(Split.TRAIN))

        def epoch() -> None:
            order = train_rows[torch.randperm(len(train_rows))]
            steps = (Drawn(rows) for rows in torch.split(order, training.batch_size))
            loop._epoch(ranker, batches, steps, optimizer, training)

        return timed(epoch)


def _cpu_s() -> float:
    """CPU seconds of this process and of those it has waited for."""
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


def training_set_of(rows: Rows, *, with_history: bool) -> TrainingSet:
    """Return the interchange rows as a training set without numbers and knowledge: fields (and history) alone."""
    user_fields, user_row = np.unique(rows.fields[:, : rows.num_user_fields], axis=0, return_inverse=True)
    item_fields, item_row = np.unique(rows.fields[:, rows.num_user_fields :], axis=0, return_inverse=True)
    num_rows, length = len(rows.label), rows.history.shape[1] if with_history else 0
    history = np.zeros((num_rows, 0), np.int32)
    if with_history:
        # The history holds encoded items; every train item has one row, whose place is looked up by its code.
        place = np.zeros(rows.sizes[rows.num_user_fields], np.int32)
        place[item_fields[:, 0]] = np.arange(len(item_fields)) + 1
        history = np.where(rows.history > 0, place[rows.history], 0).astype(np.int32)
    sized = [CategoricalField(name=name, size=size) for name, size in zip(rows.names, rows.sizes, strict=True)]
    spec = FeatureSpec(
        user_fields=tuple(sized[: rows.num_user_fields]),
        item_fields=tuple(sized[rows.num_user_fields :]),
        history_length=length,
    )
    codes = np.array([SPLIT_CODES[part] for part in PARTS], dtype=np.uint8)

    def nothing(length: int) -> NDArray[np.float32]:
        return np.zeros((length, 0), np.float32)

    training_set = TrainingSet(
        spec=spec,
        user_row=user_row.astype(np.int32),
        item_row=item_row.astype(np.int32),
        timestamp_us=np.arange(num_rows),
        value=rows.label,
        label=rows.label,
        split_code=codes[rows.part],
        cold=rows.fields[:, rows.num_user_fields] == 0,
        state_row=np.arange(num_rows, dtype=np.int32),
        user_numeric=nothing(num_rows),
        user_interest=nothing(num_rows),
        user_history=history,
        item_numeric=nothing(num_rows),
        user_fields=user_fields,
        item_fields=item_fields,
        item_multi=np.zeros((len(item_fields), 0), np.int64),
        knowledge={},
        item_numeric_now=nothing(len(item_fields)),
    )
    training_set.check()
    return training_set


if __name__ == "__main__":
    torch.manual_seed(0)
    serve(LorefuseRunner)
