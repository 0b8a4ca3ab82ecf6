"""Sections of training, tuning and evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, Field, model_validator

from lorefuse.config.base import Section, one_of

FamilyName = Literal["logistic_regression", "fm", "wide_deep", "deepfm", "dcn_v2", "finalmlp", "din", "multi_task"]
"""Names of `config.models.ModelConfig`'s families."""


class PrivateTrainingConfig(Section):
    """Differential privacy of the ranker's weights by user, see `training.private`."""

    epsilon: float = Field(gt=0, le=1000, description="Most that the weights of one training may give away, ε.")
    delta: float = Field(1e-5, gt=0, lt=1, description="Chance that they give away more, δ; below 1 / number of users.")
    max_grad_norm: float = Field(1.0, gt=0, description="Norm to which the gradient of each user is clipped.")
    rows_per_user: int = Field(
        32, ge=1, description="Rows that a user has in a step, drawn anew each time; their mean gradient is clipped."
    )
    users_per_step: int = Field(
        256,
        ge=1,
        description="Users in a step on average; each is drawn by a coin of their own. It takes the place of "
        "batch_size.",
    )


class TrainingConfig(Section):
    """The training loop."""

    batch_size: int = Field(2048, ge=1, description="Rows per step.")
    loss: Literal["pointwise", "bpr", "sampled_softmax"] = Field(
        "pointwise", description="Each row by itself, or a liked row against other rows of the same user."
    )
    num_negatives: int = Field(4, ge=1, le=256, description="Rows that sampled_softmax sets against each liked one.")
    learning_rate: float = Field(2e-3, gt=0, le=1, description="Adam's step size.")
    embedding_l2: float = Field(0.1, ge=0, description="Decoupled weight decay of the embedding tables.")
    weight_decay: float = Field(0.1, ge=0, description="Decoupled weight decay of the dense layers.")
    ema_decay: float = Field(0.98, ge=0, lt=1, description="Moving average of the weights that is kept; 0: the last.")
    max_epochs: int = Field(20, ge=1, description="Upper bound on passes over the data.")
    patience: int = Field(2, ge=1, description="Epochs without a better validation score before stopping.")
    num_threads: int = Field(2, ge=1, description="torch threads.")
    num_processes: int = Field(
        1, ge=1, le=64, description="Processes of this machine that share each training (torchrun); 1: none is started."
    )
    checkpoint_epochs: int = Field(
        0, ge=0, description="Epochs between checkpoints, from which a killed training goes on; 0: none."
    )
    device: str = Field("cpu", description="torch device.")
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="Of the products of matrices in a step (autocast); weights and sums stay float32."
    )
    compiled: bool = Field(
        False,
        description="Compile the step (torch.compile; CUDA graphs on a GPU, which was never measured). On a CPU steps "
        "were slower.",
    )
    seed: int = Field(0, ge=0, description="Initialisation and shuffling.")
    privacy: PrivateTrainingConfig | None = Field(
        None, description="Train with differential privacy (pip install lorefuse[privacy]); null: without."
    )

    @model_validator(mode="after")
    def _private_steps_are_plain(self) -> TrainingConfig:
        plain = {
            "loss": "pointwise", "num_processes": 1, "checkpoint_epochs": 0, "precision": "float32", "compiled": False,
        }  # fmt: skip
        wrong = [f"{name} {getattr(self, name)}" for name, value in plain.items() if getattr(self, name) != value]
        if self.privacy is not None and wrong:
            wanted = ", ".join(f"{name} {value}" for name, value in plain.items())
            raise ValueError(f"privacy needs {wanted}, not {', '.join(wrong)}")
        return self


class TuningConfig(Section):
    """The search over model and training."""

    num_trials: int = Field(4, ge=1, description="Trials per arm; the control gets the same number.")
    space: Literal["training", "joint"] = Field(
        "training", description="Search the loop alone, or model family, fusion and injection with it."
    )
    families: tuple[FamilyName, ...] = Field(
        ("deepfm", "dcn_v2", "finalmlp", "wide_deep"), min_length=1, description="Families of the joint space."
    )
    pruning: bool = Field(False, description="Stop trials that fall behind the median of the finished ones.")
    num_folds: int = Field(1, ge=1, le=10, description="Rolling folds in time; 1: the validation part alone.")
    seed: int = Field(0, ge=0, description="Sampler's seed.")
    studies_path: Path | None = Field(
        None, description="Folder of studies that `lorefuse tune` made, used in place of a search; null: search."
    )


ONLY = "_only"
NamedArm = Literal["real", "none", "categories", "shuffled", "random", "text_only", "graph_only"]
Arm = Annotated[str, AfterValidator(one_of(get_args(NamedArm), ONLY))]
"""Knowledge given to a model; what each means stands at `features.arms.with_knowledge`."""


class EvaluationConfig(Section):
    """Metrics, controls and seeds."""

    k: int = Field(10, ge=1, description="Cut of NDCG@k and Recall@k.")
    num_seeds: int = Field(3, ge=1, description="Trainings per arm.")
    arms: tuple[Arm, ...] = Field(
        ("real", "none", "categories", "shuffled", "random"), min_length=1, description="Knowledge given to each arm."
    )
    num_bootstraps: int = Field(200, ge=10, description="Resamples of users for confidence intervals.")
    global_cut: bool = Field(True, description="Also judge on one global time cut.")
