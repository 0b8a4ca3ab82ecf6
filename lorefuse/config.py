"""One YAML preset becomes one frozen `PipelineConfig`; a section per stage, a description under every field."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from lorefuse.errors import ConfigError


class Section(BaseModel):
    """Base of all sections: immutable, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class MovieLensSource(Section):
    """MovieLens-100K with its knowledge graph, fetched and verified by checksum."""

    kind: Literal["movielens_100k"] = "movielens_100k"
    graph: bool = Field(True, description="Fetch the Freebase triples too and re-key their item links.")


class FileSource(Section):
    """The user's own CSV or Parquet files with a mapping of their columns."""

    kind: Literal["files"] = "files"
    interactions_path: Path = Field(description="CSV (any delimiter) or Parquet with one row per interaction.")
    items_path: Path = Field(description="CSV or Parquet with one row per item.")
    users_path: Path | None = Field(None, description="CSV or Parquet with one row per user.")
    triples_path: Path | None = Field(None, description="CSV or Parquet with columns head, relation, tail.")
    links_path: Path | None = Field(None, description="CSV or Parquet with columns item_id, entity_id.")
    user_id: str = Field("user_id", description="Column of the user's identifier.")
    item_id: str = Field("item_id", description="Column of the item's identifier.")
    timestamp: str = Field("timestamp", description="Column of the event's time: ISO 8601, or Unix time.")
    timestamp_unit: Literal["auto", "s", "ms", "us", "ns"] = Field("auto", description="Unit of a Unix time.")
    value: str | None = Field("rating", description="Column of the rating or event value; null: every row counts as 1.")
    item_text: tuple[str, ...] = Field(("title",), description="Item columns that make up its text.")
    item_title: str | None = Field(None, description="Item column shown to people; default: the first text column.")
    item_categories: tuple[str, ...] = Field((), description="Item columns with one category each.")
    item_multi_categories: tuple[str, ...] = Field((), description="Item columns with several categories.")
    multi_separator: str = Field("|", min_length=1, description="Separator inside a multi-category cell.")
    item_numerics: tuple[str, ...] = Field((), description="Item columns with a number.")
    user_categories: tuple[str, ...] = Field((), description="User columns with one category each.")
    delimiter: str | None = Field(
        None, min_length=1, max_length=1, description="CSV delimiter; null: by the file's ending (.tsv is a tab)."
    )

    @field_validator("value", mode="before")
    @classmethod
    def _empty_is_null(cls, value: object) -> object:
        """A pipeline parameter carries no null, so `dump_config` writes an empty text."""
        return None if value == "" else value


class LabelConfig(Section):
    """What the ranker predicts."""

    kind: Literal["binary", "regression"] = Field("binary", description="Like or not, or the value itself.")
    threshold: float = Field(4.0, description="A value of at least this is a like (binary).")


class DataConfig(Section):
    """Raw data → dataset."""

    source: Annotated[MovieLensSource | FileSource, Field(discriminator="kind")] = MovieLensSource()
    label: LabelConfig = LabelConfig()
    max_bad_share: float = Field(0.05, ge=0, le=1, description="More quarantined rows than this is an error.")


class SplitConfig(Section):
    """Train < validation < test in time, with held-out cold items."""

    strategy: Literal["per_user_time", "global_time"] = Field("per_user_time", description="Where the cuts lie.")
    train_share: float = Field(0.8, gt=0, lt=1, description="Share of rows before the first cut.")
    validation_share: float = Field(0.1, gt=0, lt=1, description="Share of rows between the cuts.")
    cold_item_share: float = Field(0.12, ge=0, lt=1, description="Share of items without any training row.")
    seed: int = Field(0, ge=0, description="Which items are held out as cold.")

    @model_validator(mode="after")
    def _leaves_a_test_part(self) -> SplitConfig:
        if self.train_share + self.validation_share >= 1:
            raise ValueError("train_share + validation_share must leave a test part (sum below 1)")
        return self


class EmbeddingConfig(Section):
    """Item text → vectors."""

    encoder: str = Field("minilm", description="`minilm` (bundled weights), a hub name, or a local folder.")
    revision: str | None = Field(None, description="Revision of a hub model; part of the cache address.")
    prompt: str = Field("default@1", description="Versioned template that turns item columns into one text.")
    pooling: Literal["mean", "cls", "last_token"] = Field("mean", description="Token vectors → text vector.")
    max_tokens: int = Field(256, ge=8, le=8192, description="Longer texts are cut here.")
    tokens_per_batch: int = Field(1024, ge=64, description="Padded tokens encoded at a time.")
    dtype: Literal["float32", "bfloat16"] = Field("float32", description="Arithmetic of the encoder.")
    device: str = Field("cpu", description="torch device of the encoder.")
    num_threads: int | None = Field(None, ge=1, description="torch threads; null: all cores.")
    reduce_dim: int = Field(32, ge=1, le=4096, description="Dimensions kept by PCA, fitted on train items.")


class KnowledgeConfig(Section):
    """Knowledge graph → vectors."""

    graph_dim: int = Field(64, ge=1, le=1024, description="Dimensions of the item-entity SVD.")
    min_link_z: float = Field(3.0, ge=0, description="Links less plausible than this many sigmas are refused.")


class FeatureConfig(Section):
    """Aggregates, interest vectors and the item prior."""

    interest_shrinkage: float = Field(10.0, ge=0, description="κ of n/(n+κ): short histories count less.")
    prior_shrinkage: float = Field(10.0, ge=0, description="Pseudo-rows that pull an item's mean to the overall mean.")
    num_prior_folds: int = Field(5, ge=2, description="Folds of the out-of-fold item prior.")
    history_length: int = Field(50, ge=1, description="Recent liked items kept per user.")
    min_category_count: int = Field(1, ge=1, description="Rarer train categories become unseen (index 0).")


class DeepFMConfig(Section):
    """DeepFM with knowledge as a residual of the item embedding."""

    family: Literal["deepfm"] = "deepfm"
    embedding_dim: int = Field(16, ge=1, le=512, description="Dimensions D of each field's embedding.")
    hidden_dims: tuple[int, ...] = Field((128, 64), min_length=1, description="Widths of the deep part.")
    dropout: float = Field(0.2, ge=0, lt=1, description="Dropout in the deep part.")
    id_dropout: float = Field(0.1, ge=0, lt=1, description="Share of item ids replaced by the unseen index.")
    residual_text_dim: int = Field(16, ge=0, description="Leading text dimensions that enter the residual.")
    residual_graph_dim: int = Field(32, ge=0, description="Leading graph dimensions that enter the residual.")


ModelConfig = DeepFMConfig
"""Becomes a discriminated union as families are added."""


class TrainingConfig(Section):
    """The training loop."""

    batch_size: int = Field(2048, ge=1, description="Rows per step.")
    learning_rate: float = Field(2e-3, gt=0, le=1, description="Adam's step size.")
    embedding_l2: float = Field(0.1, ge=0, description="Decoupled weight decay of the embedding tables.")
    weight_decay: float = Field(0.1, ge=0, description="Decoupled weight decay of the dense layers.")
    ema_decay: float = Field(0.98, ge=0, lt=1, description="Moving average of the weights that is kept; 0: the last.")
    max_epochs: int = Field(20, ge=1, description="Upper bound on passes over the data.")
    patience: int = Field(2, ge=1, description="Epochs without a better validation score before stopping.")
    num_threads: int = Field(2, ge=1, description="torch threads.")
    device: str = Field("cpu", description="torch device.")
    seed: int = Field(0, ge=0, description="Initialisation and shuffling.")


class TuningConfig(Section):
    """The search over model and training."""

    num_trials: int = Field(4, ge=1, description="Trials per arm; the control gets the same number.")
    seed: int = Field(0, ge=0, description="Sampler's seed.")


Arm = Literal["real", "none", "categories", "shuffled", "random", "text_only", "graph_only"]
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


class RegistryConfig(Section):
    """MLflow names and the promotion gate."""

    experiment: str = Field("lorefuse", min_length=1, description="MLflow experiment.")
    model_name: str = Field("lorefuse-ranker", min_length=1, description="Registered model.")
    gate_metric: str = Field("auc_warm", description="Test metric compared with the champion's.")


class ServingConfig(Section):
    """What the served models allow."""

    max_k: int = Field(100, ge=1, le=1000, description="Most items a request may ask for.")
    max_exclude: int = Field(1024, ge=1, description="Most seen items excluded per request.")
    num_reference_rows: int = Field(256, ge=8, description="Rows whose scores travel with the version.")


class PipelineConfig(Section):
    """Everything that decides a run, and nothing that the environment decides."""

    name: str = Field("movielens-100k", pattern=r"^[a-z0-9][a-z0-9-]*$", description="Name of the scenario.")
    data: DataConfig = DataConfig()
    split: SplitConfig = SplitConfig()
    embedding: EmbeddingConfig = EmbeddingConfig()
    knowledge: KnowledgeConfig = KnowledgeConfig()
    features: FeatureConfig = FeatureConfig()
    model: ModelConfig = DeepFMConfig()
    training: TrainingConfig = TrainingConfig()
    tuning: TuningConfig = TuningConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    registry: RegistryConfig = RegistryConfig()
    serving: ServingConfig = ServingConfig()


def parse_config(content: dict[str, Any], *, origin: str = "the configuration") -> PipelineConfig:
    """Validate a plain dict, as a YAML file or a pipeline parameter holds it.

    Args:
        content: The nested dict. Floats with no fraction are accepted for integers (kfp makes them).
        origin: Named in the error.

    Raises:
        ConfigError: An unknown key, a wrong type or a value out of range; all of them listed.
    """
    try:
        return PipelineConfig.model_validate(content)
    except ValidationError as error:
        raise ConfigError(f"{origin} cannot be used.\n" + _explain(error)) from None


def load_config(path: Path) -> PipelineConfig:
    """Read a YAML preset; relative data paths count from the preset's folder.

    Raises:
        ConfigError: The file is missing, not UTF-8, not YAML, or does not validate.
    """
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"There is no configuration {path}.",
            fix="name a YAML file, e.g. pipelines/configs/movielens_100k.yaml",
        ) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} could not be read.", expected="a YAML file in UTF-8", got=str(error)) from None
    if content is None:
        content = {}
    if not isinstance(content, dict):
        raise ConfigError(f"{path} could not be used.", expected="a mapping of sections", got=type(content).__name__)
    return parse_config(_absolute_paths(content, path.resolve().parent), origin=str(path))


def _absolute_paths(content: dict[str, Any], folder_path: Path) -> dict[str, Any]:
    data = content.get("data")
    source = data.get("source") if isinstance(data, dict) else None
    if not isinstance(source, dict):
        return content
    fixed = {
        key: str(folder_path / value) if key.endswith("_path") and isinstance(value, str) else value
        for key, value in source.items()
    }
    return {**content, "data": {**content["data"], "source": fixed}}


def _explain(error: ValidationError) -> str:
    lines = []
    for item in error.errors():
        where = ".".join(str(part) for part in item["loc"]) or "(top level)"
        if item["type"] == "extra_forbidden":
            lines.append(f"  {where}: unknown key; fix: remove it or correct its name")
        else:
            lines.append(f"  {where}: expected: {item['msg']}; got: {item.get('input')!r}")
    return "\n".join(lines)
