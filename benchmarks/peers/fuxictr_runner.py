"""FuxiCTR's DeepFM and DCN-V2, put together from the layers and the trainer of its wheel as its users do."""

from __future__ import annotations

import dataclasses
import logging
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fuxictr.features import FeatureMap
from fuxictr.pytorch.dataloaders import RankDataLoader
from fuxictr.pytorch.layers import CrossNetV2, FactorizationMachine, FeatureEmbedding, MLP_Block
from fuxictr.pytorch.models import BaseModel
from fuxictr.pytorch.torch_utils import seed_everything
from protocol import TEST, TRAIN, VALIDATION, Job, Rows, Timed, Work, serve, timed


class DeepFM(BaseModel):
    """Linear part, factorisation machine and MLP over shared embeddings."""

    def __init__(self, feature_map: FeatureMap, job: Job, **keywords: Any) -> None:
        super().__init__(feature_map, **keywords)
        self.embedding = FeatureEmbedding(feature_map, job.embedding_dim)
        self.fm = FactorizationMachine(feature_map)
        width = feature_map.sum_emb_out_dim()
        self.deep = MLP_Block(width, list(job.hidden_dims), output_dim=1, dropout_rates=job.dropout)
        self.compile("adam", "binary_crossentropy", job.learning_rate)
        self.reset_parameters()

    def forward(self, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return the probability of a like."""
        columns = self.get_inputs(inputs)
        fields = self.embedding(columns)
        logit = self.fm(columns, fields) + self.deep(fields.flatten(start_dim=1))
        return {"y_pred": self.output_activation(logit)}


class DCNV2(BaseModel):
    """Cross network and MLP in parallel."""

    def __init__(self, feature_map: FeatureMap, job: Job, **keywords: Any) -> None:
        super().__init__(feature_map, **keywords)
        self.embedding = FeatureEmbedding(feature_map, job.embedding_dim)
        width = feature_map.sum_emb_out_dim()
        self.cross = CrossNetV2(width, job.num_cross_layers)
        self.deep = MLP_Block(width, list(job.hidden_dims), dropout_rates=job.dropout)
        self.last = torch.nn.Linear(width + job.hidden_dims[-1], 1)
        self.compile("adam", "binary_crossentropy", job.learning_rate)
        self.reset_parameters()

    def forward(self, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return the probability of a like."""
        flat = self.embedding(self.get_inputs(inputs), flatten_emb=True)
        logit = self.last(torch.cat([self.cross(flat), self.deep(flat)], dim=-1))
        return {"y_pred": self.output_activation(logit)}


MODELS = {"deepfm": DeepFM, "dcn_v2": DCNV2}


class FuxiCTRRunner:
    """Trains with `BaseModel.fit` and `BaseModel.train_epoch`; its npz loader, without worker processes."""

    def __init__(self, rows: Rows, job: Job, scratch_path: Path) -> None:
        logging.disable(logging.CRITICAL)
        torch.set_num_threads(job.num_threads)
        self.rows, self.job, self.scratch_path = rows, job, scratch_path
        self.feature_map = FeatureMap("rows", str(scratch_path))
        self.feature_map.features = OrderedDict(
            (name, {"type": "categorical", "source": "", "padding_idx": 0, "vocab_size": size})
            for name, size in zip(rows.names, rows.sizes, strict=True)
        )
        self.feature_map.labels, self.feature_map.default_emb_dim = ["label"], job.embedding_dim
        self.feature_map.num_fields = len(rows.names)
        self.feature_map.set_column_index()
        self.paths = {part: self._write(part) for part in (TRAIN, VALIDATION, TEST)}
        self.model, self.train_loader = self._model(0), self._loader(TRAIN)

    def _write(self, part: int) -> str:
        at = self.rows.of(part)
        path = str(self.scratch_path / f"part{part}.npz")
        columns = {name: self.rows.fields[at, n] for n, name in enumerate(self.rows.names)}
        np.savez(path, **columns, label=self.rows.label[at])
        return path

    def _loader(self, part: int) -> Any:
        stages = {TRAIN: ("train", "train_data"), VALIDATION: ("test", "test_data"), TEST: ("test", "test_data")}
        stage, keyword = stages[part]
        loaders = RankDataLoader(
            self.feature_map,
            stage=stage,
            batch_size=self.job.batch_size,
            shuffle=True,
            num_workers=0,
            **{keyword: self.paths[part]},
        )
        return loaders[0] if stage == "train" else loaders

    def _model(self, seed: int, job: Job | None = None) -> BaseModel:
        seed_everything(seed)
        torch.set_num_threads(self.job.num_threads)
        (self.scratch_path / "rows").mkdir(exist_ok=True)
        return MODELS[self.job.family](
            self.feature_map,
            job or self.job,
            model_id=f"model{seed}",
            monitor={"logloss": -1},
            monitor_mode="max",
            metrics=["logloss"],
            early_stop_patience=self.job.patience,
            reduce_lr_on_plateau=False,
            verbose=0,
            model_root=str(self.scratch_path),
        )

    def fit(self, seed: int) -> np.ndarray:
        """Train with its own loop, stopping on the validation logloss."""
        model = self._model(seed)
        model.fit(self._loader(TRAIN), epochs=self.job.max_epochs, validation_data=self._loader(VALIDATION))
        return model.predict(self._loader(TEST)).astype(np.float32)

    def trial(self, params: dict[str, Any], seed: int) -> tuple[Timed, np.ndarray]:
        """Build and train with its own loop; nothing in it would let a pruner stop it."""
        job = dataclasses.replace(self.job, **params)
        made: list[BaseModel] = []

        def run() -> None:
            model = self._model(seed, job)
            model.fit(self._loader(TRAIN), epochs=job.max_epochs, validation_data=self._loader(VALIDATION))
            made.append(model)

        return timed(run), made[0].predict(self._loader(VALIDATION)).astype(np.float32)

    def epoch(self, work: Work) -> Timed:
        """Run `train_epoch`, on its loader or on ready batches."""
        model = self.model
        model._max_gradient_norm, model._eval_steps = 10.0, 10**9
        model._total_steps, model._epoch_index, model._stop_training = 0, 0, False
        batches = self.train_loader if work == "own" else self._ready_batches()
        return timed(lambda: model.train_epoch(batches))

    def _ready_batches(self) -> list[dict[str, torch.Tensor]]:
        order = np.random.default_rng(0).permutation(self.rows.of(TRAIN))
        batches = []
        for start in range(0, len(order), self.job.batch_size):
            at = order[start : start + self.job.batch_size]
            batch = {name: torch.from_numpy(self.rows.fields[at, n].copy()) for n, name in enumerate(self.rows.names)}
            batches.append({**batch, "label": torch.from_numpy(self.rows.label[at])})
        return batches


if __name__ == "__main__":
    serve(FuxiCTRRunner)
