"""Sections of the model families: one class each, told apart by `family`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from lorefuse.config.base import Section

FusionName = Literal["residual", "concat", "weighted", "attention", "gated", "bilinear", "null_space", "none"]


class IdConfig(Section):
    """What every family has."""

    id_dropout: float = Field(0.1, ge=0, lt=1, description="Share of ids replaced by the unseen index in training.")


class FieldConfig(IdConfig):
    """Families whose fields are vectors: how knowledge enters them."""

    embedding_dim: int = Field(16, ge=1, le=512, description="Dimensions D of each field's embedding.")
    fusion: FusionName = Field("residual", description="How knowledge vectors meet the item's id embedding.")
    fusion_text_dim: int = Field(16, ge=0, description="Leading text dimensions that enter the fusion.")
    fusion_graph_dim: int = Field(32, ge=0, description="Leading graph dimensions that enter the fusion.")
    fusion_dims: dict[str, Annotated[int, Field(ge=0)]] = Field(
        {}, description="Leading dimensions of other knowledge blocks, by name; 32 of those that are not named."
    )
    init: Literal["random", "text"] = Field("random", description="Where item id embeddings start.")
    alignment_weight: float = Field(0.0, ge=0, le=10, description="Weight of the id-knowledge contrastive loss.")
    alignment_temperature: float = Field(0.2, gt=0, le=10, description="Temperature of that loss.")


class DeepConfig(FieldConfig):
    """Families with an MLP."""

    hidden_dims: tuple[Annotated[int, Field(ge=1)], ...] = Field((128, 64), min_length=1, description="MLP widths.")
    dropout: float = Field(0.2, ge=0, lt=1, description="Dropout after each hidden layer.")


class LogisticRegressionConfig(IdConfig):
    """One weight per category, number and knowledge dimension."""

    family: Literal["logistic_regression"] = "logistic_regression"


class FMConfig(FieldConfig):
    """Factorisation machine."""

    family: Literal["fm"] = "fm"


class WideDeepConfig(DeepConfig):
    """Wide & Deep."""

    family: Literal["wide_deep"] = "wide_deep"


class DeepFMConfig(DeepConfig):
    """DeepFM, whose whole catalogue is scored in one product."""

    family: Literal["deepfm"] = "deepfm"


class DCNV2Config(DeepConfig):
    """DCN-V2, parallel form."""

    family: Literal["dcn_v2"] = "dcn_v2"
    num_cross_layers: int = Field(2, ge=1, le=8, description="Cross layers.")
    cross_rank: int = Field(0, ge=0, description="Rank of the cross matrices; 0: full.")


class FinalMLPConfig(DeepConfig):
    """FinalMLP."""

    family: Literal["finalmlp"] = "finalmlp"
    num_heads: int = Field(4, ge=1, description="Heads of the bilinear product; divides the last hidden width.")

    @model_validator(mode="after")
    def _heads_divide(self) -> FinalMLPConfig:
        if self.hidden_dims[-1] % self.num_heads:
            raise ValueError(f"num_heads must divide the last of hidden_dims ({self.hidden_dims[-1]})")
        return self


class DINConfig(DeepConfig):
    """DIN: target attention over the user's recent liked items."""

    family: Literal["din"] = "din"
    history_length: int = Field(20, ge=1, le=200, description="Recent liked items that the model reads.")
    attention_dim: int = Field(36, ge=1, description="Hidden width of the attention.")
    match: bool = Field(True, description="Cosines of the candidate with liked items as numbers beside the attention.")


class MultiTaskConfig(FieldConfig):
    """Several tasks over one trunk; the label's head is served."""

    family: Literal["multi_task"] = "multi_task"
    structure: Literal["shared_bottom", "mmoe", "ple", "esmm"] = Field("mmoe", description="How tasks share.")
    tasks: tuple[Literal["value", "click"], ...] = Field(("value",), description="Tasks beside the label.")
    task_weight: float = Field(0.2, ge=0, description="Weight of each of them in the loss.")
    num_experts: int = Field(3, ge=1, le=32, description="Experts (of each group, for PLE).")
    expert_dim: int = Field(64, ge=1, description="Width of an expert.")
    tower_dims: tuple[Annotated[int, Field(ge=1)], ...] = Field((32,), min_length=1, description="Tower widths.")
    dropout: float = Field(0.2, ge=0, lt=1, description="Dropout after each hidden layer.")


def _family(content: Any) -> str:
    """A section without `family` is a DeepFM."""
    return str(content.get("family", "deepfm") if isinstance(content, dict) else getattr(content, "family", ""))


ModelConfig = Annotated[
    Annotated[LogisticRegressionConfig, Tag("logistic_regression")]
    | Annotated[FMConfig, Tag("fm")]
    | Annotated[WideDeepConfig, Tag("wide_deep")]
    | Annotated[DeepFMConfig, Tag("deepfm")]
    | Annotated[DCNV2Config, Tag("dcn_v2")]
    | Annotated[FinalMLPConfig, Tag("finalmlp")]
    | Annotated[DINConfig, Tag("din")]
    | Annotated[MultiTaskConfig, Tag("multi_task")],
    Discriminator(_family),
]
"""`model`: one of the families."""

_CLASSES: dict[str, Any] = {
    str(kind.model_fields["family"].default): kind
    for kind in (
        LogisticRegressionConfig,
        FMConfig,
        WideDeepConfig,
        DeepFMConfig,
        DCNV2Config,
        FinalMLPConfig,
        DINConfig,
        MultiTaskConfig,
    )
}


def model_class(family: str) -> Any:
    """Return the section class of a family."""
    return _CLASSES[family]
