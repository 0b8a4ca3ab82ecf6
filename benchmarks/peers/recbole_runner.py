"""RecBole's DIN on rows that already carry their history: its benchmark-file way, with its own trainer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from protocol import TEST, TRAIN, VALIDATION, Job, Rows, Timed, Work, serve, timed
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.utils import get_model, get_trainer, init_seed

PARTS = {TRAIN: "train", VALIDATION: "valid", TEST: "test"}


class RecBoleRunner:
    """Trains with `Trainer.fit`, which stops on the validation AUC; scores with the best epoch's weights."""

    def __init__(self, rows: Rows, job: Job, scratch_path: Path) -> None:
        self.rows, self.job, self.scratch_path = rows, job, scratch_path
        self._write()
        self.config = self._config(0)
        self.dataset = create_dataset(self.config)
        self.loaders = dict(zip(PARTS, data_preparation(self.config, self.dataset), strict=True))

    def _write(self) -> None:
        folder_path = self.scratch_path / "rows"
        folder_path.mkdir(exist_ok=True)
        names, first = self.rows.names, self.rows.num_user_fields
        for part, name in PARTS.items():
            at = self.rows.of(part)
            with (folder_path / f"rows.{name}.inter").open("w", encoding="utf-8") as file:
                file.write("user_id:token\titem_id:token\titem_id_list:token_seq\tlabel:float\n")
                for row in at:
                    past = " ".join(str(code) for code in self.rows.history[row] if code)
                    user, item = self.rows.fields[row, 0], self.rows.fields[row, first]
                    file.write(f"{user}\t{item}\t{past or item}\t{self.rows.label[row]:.0f}\n")
        for ending, columns in (("user", range(first)), ("item", range(first, len(names)))):
            table = np.unique(self.rows.fields[:, list(columns)], axis=0)
            table = table[np.unique(table[:, 0], return_index=True)[1]]
            lines = ["\t".join(f"{names[n]}:token" for n in columns), *("\t".join(map(str, row)) for row in table)]
            (folder_path / f"rows.{ending}").write_text("\n".join(lines) + "\n", "utf-8")

    def _config(self, seed: int) -> Config:
        names, first = self.rows.names, self.rows.num_user_fields
        settings = {
            "data_path": str(self.scratch_path),
            "checkpoint_dir": str(self.scratch_path / "saved"),
            "benchmark_filename": list(PARTS.values()),
            "alias_of_item_id": ["item_id_list"],
            "load_col": {
                "inter": ["user_id", "item_id", "item_id_list", "label"],
                "user": names[:first],
                "item": names[first:],
            },
            "USER_ID_FIELD": "user_id",
            "ITEM_ID_FIELD": "item_id",
            "LABEL_FIELD": "label",
            "ITEM_LIST_LENGTH_FIELD": "item_length",
            "LIST_SUFFIX": "_list",
            "MAX_ITEM_LIST_LENGTH": self.rows.history.shape[1],
            "train_neg_sample_args": None,
            "eval_args": {"group_by": None, "mode": "labeled", "order": "TO", "split": {"LS": "valid_and_test"}},
            "metrics": ["AUC", "LogLoss"],
            "valid_metric": "LogLoss",
            "embedding_size": self.job.embedding_dim,
            "mlp_hidden_size": list(self.job.hidden_dims),
            "dropout_prob": self.job.dropout,
            "learning_rate": self.job.learning_rate,
            "train_batch_size": self.job.batch_size,
            "eval_batch_size": 8192,
            "epochs": self.job.max_epochs,
            "stopping_step": self.job.patience,
            "device": "cpu",
            "use_gpu": False,
            "gpu_id": "",
            "seed": seed,
            "show_progress": False,
            "state": "ERROR",
        }
        return Config(model="DIN", dataset="rows", config_dict=settings)

    def _trainer(self, seed: int) -> object:
        init_seed(seed, reproducibility=True)
        torch.set_num_threads(self.job.num_threads)
        model = get_model("DIN")(self.config, self.dataset)
        return get_trainer(self.config["MODEL_TYPE"], self.config["model"])(self.config, model)

    def fit(self, seed: int) -> np.ndarray:
        """Train with its own loop, stopping on the validation logloss."""
        trainer = self._trainer(seed)
        trainer.fit(self.loaders[TRAIN], self.loaders[VALIDATION], saved=True, show_progress=False, verbose=False)
        # A file that this very process has just written; it holds more than tensors.
        kept = torch.load(trainer.saved_model_file, weights_only=False)
        trainer.model.load_state_dict(kept["state_dict"])
        trainer.model.eval()
        with torch.no_grad():
            batches = [trainer.model.predict(batch[0]).numpy() for batch in self.loaders[TEST]]
        return np.concatenate(batches).astype(np.float32)

    def epoch(self, work: Work) -> Timed:
        """Run one epoch of its trainer."""
        trainer = self._trainer(0)
        trainer.eval_collector.data_collect(self.loaders[TRAIN])
        return timed(lambda: trainer._train_epoch(self.loaders[TRAIN], 0, show_progress=False))


if __name__ == "__main__":
    serve(RecBoleRunner)
