"""DeepCTR-Torch's DeepFM and DCN with full matrices (DCN-V2's cross), with their own `fit`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from deepctr_torch.callbacks import EarlyStopping
from deepctr_torch.inputs import SparseFeat
from deepctr_torch.models import DCN, DeepFM
from protocol import TEST, TRAIN, VALIDATION, Job, Rows, Timed, Work, serve, timed


class DeepCTRRunner:
    """Trains with `BaseModel.fit`; the steps alone are the body of that loop on ready batches."""

    def __init__(self, rows: Rows, job: Job, scratch_path: Path) -> None:
        torch.set_num_threads(job.num_threads)
        self.rows, self.job = rows, job
        self.model = self._model(0)

    def _model(self, seed: int) -> DeepFM | DCN:
        columns = [
            SparseFeat(name, size, embedding_dim=self.job.embedding_dim)
            for name, size in zip(self.rows.names, self.rows.sizes, strict=True)
        ]
        shared = {
            "dnn_hidden_units": self.job.hidden_dims,
            "dnn_dropout": self.job.dropout,
            "l2_reg_linear": 0,
            "l2_reg_embedding": 0,
            "seed": seed,
        }
        if self.job.family == "dcn_v2":
            cross = {"cross_num": self.job.num_cross_layers, "cross_parameterization": "matrix", "l2_reg_cross": 0}
            model = DCN(columns, columns, **cross, **shared)
        else:
            model = DeepFM(columns, columns, **shared)
        optimizer = torch.optim.Adam(model.parameters(), lr=self.job.learning_rate)
        model.compile(optimizer, "binary_crossentropy", metrics=["binary_crossentropy"])
        return model

    def _inputs(self, at: np.ndarray) -> dict[str, np.ndarray]:
        return {name: self.rows.fields[at, n] for n, name in enumerate(self.rows.names)}

    def fit(self, seed: int) -> np.ndarray:
        """Train with its own loop, stopping on the validation loss; its callback brings the best weights back."""
        model = self._model(seed)
        train, validation = self.rows.of(TRAIN), self.rows.of(VALIDATION)
        stop = EarlyStopping(
            monitor="val_binary_crossentropy",
            mode="min",
            patience=self.job.patience,
        )
        keep = BestWeights()
        model.fit(
            self._inputs(train),
            self.rows.label[train],
            batch_size=self.job.batch_size,
            epochs=self.job.max_epochs,
            verbose=0,
            validation_data=(self._inputs(validation), self.rows.label[validation]),
            callbacks=[keep, stop],
        )
        model.load_state_dict(keep.weights)
        scores = model.predict(self._inputs(self.rows.of(TEST)), batch_size=self.job.batch_size)
        return scores[:, 0].astype(np.float32)

    def epoch(self, work: Work) -> Timed:
        """Run one epoch of `fit`, or its steps alone."""
        return self._own_epoch() if work == "own" else self._steps()

    def _own_epoch(self) -> Timed:
        train = self.rows.of(TRAIN)
        inputs, label = self._inputs(train), self.rows.label[train]
        return timed(lambda: self.model.fit(inputs, label, batch_size=self.job.batch_size, epochs=1, verbose=0))

    def _steps(self) -> Timed:
        order = np.random.default_rng(0).permutation(self.rows.of(TRAIN))
        fields, label = torch.from_numpy(self.rows.fields[order]).float(), torch.from_numpy(self.rows.label[order])
        batches = list(
            zip(torch.split(fields, self.job.batch_size), torch.split(label, self.job.batch_size), strict=True)
        )
        model = self.model.train()

        def steps() -> None:
            for inputs, target in batches:
                prediction = model(inputs).squeeze()
                model.optim.zero_grad()
                loss = model.loss_func(prediction, target, reduction="sum") + model.get_regularization_loss()
                loss.backward()
                model.optim.step()

        return timed(steps)


class BestWeights(EarlyStopping):
    """Remembers the weights of the best epoch, which the library's early stopping does not."""

    def __init__(self) -> None:
        super().__init__(monitor="val_binary_crossentropy", mode="min", patience=10**6)
        self.lowest = np.inf
        self.weights: dict[str, torch.Tensor] = {}

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Copy the weights after an epoch with the lowest validation loss so far."""
        loss = (logs or {})["val_binary_crossentropy"]
        if loss < self.lowest:
            self.lowest = loss
            self.weights = {name: value.clone() for name, value in self.model.state_dict().items()}


if __name__ == "__main__":
    serve(DeepCTRRunner)
