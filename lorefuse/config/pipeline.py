"""The whole configuration of a pipeline run."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from lorefuse.config.auto import AutoConfig
from lorefuse.config.base import Section
from lorefuse.config.candidates import CONTENT, CandidatesConfig
from lorefuse.config.data import DataConfig, FileSource, SplitConfig
from lorefuse.config.drift import DriftConfig
from lorefuse.config.enrich import EnrichConfig
from lorefuse.config.knowledge import EmbeddingConfig, FeatureConfig, KnowledgeConfig
from lorefuse.config.leaks import LeaksConfig
from lorefuse.config.learning import ONLY, EvaluationConfig, TrainingConfig, TuningConfig
from lorefuse.config.models import DeepFMConfig, ModelConfig
from lorefuse.config.privacy import PrivacyConfig
from lorefuse.config.retrieval import RetrievalConfig
from lorefuse.config.serving import RegistryConfig, ServingConfig
from lorefuse.config.study import StudyConfig
from lorefuse.core.schema import GRAPH, SECOND_STRATEGY, TEXT, block_names


class PipelineConfig(Section):
    """Everything that decides a run, and nothing that the environment decides."""

    name: str = Field("movielens-100k", pattern=r"^[a-z0-9][a-z0-9-]*$", description="Name of the scenario.")
    auto: AutoConfig | None = Field(
        None, description="A race that chooses what the preset leaves open; null: none is run."
    )
    data: DataConfig = DataConfig()
    privacy: PrivacyConfig | None = Field(
        None, description="Pseudonyms and retention; null: users are known by their ids, and all rows are kept."
    )
    split: SplitConfig = SplitConfig()
    embedding: EmbeddingConfig = EmbeddingConfig()
    knowledge: KnowledgeConfig = KnowledgeConfig()
    features: FeatureConfig = FeatureConfig()
    model: ModelConfig = DeepFMConfig()
    training: TrainingConfig = TrainingConfig()
    tuning: TuningConfig = TuningConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    study: StudyConfig = StudyConfig()
    leaks: LeaksConfig = LeaksConfig()
    candidates: CandidatesConfig = CandidatesConfig()
    retrieval: RetrievalConfig = RetrievalConfig()
    enrich: EnrichConfig | None = Field(None, description="A language model that writes about items and users.")
    registry: RegistryConfig = RegistryConfig()
    serving: ServingConfig = ServingConfig()
    drift: DriftConfig = DriftConfig()

    @property
    def second_strategy(self) -> str:
        """Split that a model is judged on once more; without `evaluation.global_cut` the first, already made."""
        strategy = self.split.strategy
        return SECOND_STRATEGY[strategy] if self.evaluation.global_cut else strategy

    def as_preset(self) -> dict[str, Any]:
        """Return it as plain JSON that `load_config` reads back as it is."""
        content: dict[str, Any] = self.model_dump(mode="json")
        if self.privacy is None:  # a section that is named, even without content, asks for its defaults
            del content["privacy"]
        return content

    @model_validator(mode="after")
    def _history_is_kept(self) -> PipelineConfig:
        wanted, kept = getattr(self.model, "history_length", 0), self.features.history_length
        if wanted > kept:
            raise ValueError(f"model.history_length {wanted} must not exceed features.history_length {kept}")
        return self

    @model_validator(mode="after")
    def _ids_are_no_categories(self) -> PipelineConfig:
        source = self.data.source
        if self.privacy and self.privacy.pseudonyms and isinstance(source, FileSource):
            told = [name for name in ("user_categories", "item_text") if source.user_id in getattr(source, name)]
            if told:
                raise ValueError(
                    f"data.source.{told[0]} names {source.user_id!r}, the user's id, which privacy.pseudonyms hides"
                )
        return self

    @model_validator(mode="after")
    def _candidates_are_not_private(self) -> PipelineConfig:
        if self.training.privacy is not None and self.candidates.mode == "blend":
            raise ValueError(
                "training.privacy goes with candidates.mode none or auto, not blend, whose tables have no noise"
            )
        return self

    @property
    def knowledge_names(self) -> tuple[str, ...]:
        """Names of the knowledge blocks that items may have."""
        return (TEXT, GRAPH, *self.knowledge.item_vectors)

    @model_validator(mode="after")
    def _blocks_meet_no_column(self) -> PipelineConfig:
        source = self.data.source
        if isinstance(source, FileSource):
            columns = {*source.item_categories, *source.item_multi_categories, *source.user_categories}
            columns |= {*source.item_numerics, *source.item_text}
            for block in self.knowledge.item_vectors:
                met = sorted(columns & set(block_names(block)))
                if met:
                    raise ValueError(f"knowledge.item_vectors.{block} needs the name {met[0]!r}, which is a column's")
        return self

    @model_validator(mode="after")
    def _knowledge_is_there(self) -> PipelineConfig:
        asked = {
            "evaluation.arms": [arm.removesuffix(ONLY) for arm in self.evaluation.arms if arm.endswith(ONLY)],
            "study.arms": [arm.removesuffix(ONLY) for arm in self.study.arms if arm.endswith(ONLY)],
            "candidates.views": [
                view.removesuffix(CONTENT) for view in self.candidates.views if view.endswith(CONTENT)
            ],
            "model.fusion_dims": list(getattr(self.model, "fusion_dims", ())),
        }
        for key, names in asked.items():
            unknown = sorted(set(names) - set(self.knowledge_names))
            if unknown:
                known = ", ".join(self.knowledge_names)
                raise ValueError(f"{key} names {unknown[0]!r}, which is no knowledge of the items; there is {known}")
        return self

    @model_validator(mode="after")
    def _values_have_no_auc(self) -> PipelineConfig:
        metric = self.registry.gate_metric
        if self.data.label.kind == "regression" and not metric.startswith("rmse"):
            changed = self.registry.model_copy(update={"gate_metric": f"rmse_{metric.rpartition('_')[2]}"})
            object.__setattr__(self, "registry", changed)  # a frozen section has no other way
        return self

    @model_validator(mode="after")
    def _served_vectors_are_the_trained_ones(self) -> PipelineConfig:
        if self.serving.embed and self.embedding.dtype != "float32":
            raise ValueError(
                f"serving.embed needs embedding.dtype float32, not {self.embedding.dtype}: the served encoder computes "
                "in float32, and vectors of two arithmetics are never mixed"
            )
        return self
