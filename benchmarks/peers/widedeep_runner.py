"""pytorch-widedeep's Wide component beside its DeepFM, with its own `Trainer`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from protocol import TEST, TRAIN, VALIDATION, Job, Rows, Timed, Work, serve, timed

try:
    import torchvision  # noqa: F401
except RuntimeError:
    # The registry's torchvision is built for CUDA; beside a CPU torch its compiled operators are missing, and it fails
    # while it describes them. They work on images and are never called here, so their names are enough.
    _OPERATORS = torch.library.Library("torchvision", "DEF")
    for _name in ("nms", "qnms"):
        _OPERATORS.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

from pytorch_widedeep import Trainer
from pytorch_widedeep.callbacks import EarlyStopping
from pytorch_widedeep.models import Wide, WideDeep
from pytorch_widedeep.models.rec import DeepFactorizationMachine


class WideDeepRunner:
    """Trains with `Trainer.fit`; the steps alone are `Trainer._train_step` on ready batches."""

    def __init__(self, rows: Rows, job: Job, scratch_path: Path) -> None:
        torch.set_num_threads(job.num_threads)
        self.rows, self.job = rows, job
        # The wide part wants one numbering over all fields, from 1.
        self.starts = np.concatenate([[0], np.cumsum(rows.sizes)[:-1]]) + 1
        self.trainer = self._trainer(0, [])

    def _trainer(self, seed: int, callbacks: list[EarlyStopping]) -> Trainer:
        torch.manual_seed(seed)
        # The library numbers categories from 1 and pads with 0; its tables hold one row more than said.
        deep = DeepFactorizationMachine(
            column_idx={name: n for n, name in enumerate(self.rows.names)},
            num_factors=self.job.embedding_dim,
            cat_embed_input=list(zip(self.rows.names, self.rows.sizes, strict=True)),
            mlp_hidden_dims=list(self.job.hidden_dims),
            mlp_activation="relu",
            mlp_dropout=self.job.dropout,
        )
        model = WideDeep(wide=Wide(input_dim=sum(self.rows.sizes), pred_dim=1), deeptabular=deep)
        optimizer = torch.optim.Adam(model.parameters(), lr=self.job.learning_rate)
        return Trainer(
            model,
            objective="binary",
            optimizers=optimizer,
            callbacks=callbacks,
            verbose=0,
            seed=seed,
            device="cpu",
            num_workers=0,
        )

    def _inputs(self, part: int) -> dict[str, np.ndarray]:
        fields = self.rows.fields[self.rows.of(part)]
        return {"X_wide": fields + self.starts, "X_tab": fields}

    def fit(self, seed: int) -> np.ndarray:
        """Train with its own loop, stopping on the validation loss."""
        stop = EarlyStopping(monitor="val_loss", mode="min", patience=self.job.patience, restore_best_weights=True)
        trainer = self._trainer(seed, [stop])
        validation = {**self._inputs(VALIDATION), "target": self.rows.label[self.rows.of(VALIDATION)]}
        train = {**self._inputs(TRAIN), "target": self.rows.label[self.rows.of(TRAIN)]}
        trainer.fit(X_train=train, X_val=validation, n_epochs=self.job.max_epochs, batch_size=self.job.batch_size)
        scores = trainer.predict_proba(**self._inputs(TEST), batch_size=self.job.batch_size)
        return scores[:, 1].astype(np.float32)

    def epoch(self, work: Work) -> Timed:
        """Run one epoch of `fit`, or its steps alone."""
        target = self.rows.label[self.rows.of(TRAIN)]
        if work == "own":
            train = {**self._inputs(TRAIN), "target": target}
            return timed(lambda: self.trainer.fit(X_train=train, n_epochs=1, batch_size=self.job.batch_size))
        order = np.random.default_rng(0).permutation(len(target))
        columns = {"wide": "X_wide", "deeptabular": "X_tab"}
        inputs = self._inputs(TRAIN)
        tensors = {name: torch.from_numpy(inputs[column][order]) for name, column in columns.items()}
        split = {name: torch.split(tensor, self.job.batch_size) for name, tensor in tensors.items()}
        targets = torch.split(torch.from_numpy(target[order]), self.job.batch_size)
        batches = [({name: parts[n] for name, parts in split.items()}, label) for n, label in enumerate(targets)]

        def steps() -> None:
            self.trainer.train_running_loss = 0.0
            for number, (batch, label) in enumerate(batches):
                self.trainer._train_step(batch, label, number)

        return timed(steps)


if __name__ == "__main__":
    serve(WideDeepRunner)
