"""One YAML preset becomes one frozen `PipelineConfig`; a section per stage, a description under every field."""

from lorefuse.config.auto import AutoConfig
from lorefuse.config.base import Section
from lorefuse.config.data import (
    DataConfig,
    FileSource,
    LabelConfig,
    MovieLensSource,
    NegativesConfig,
    SplitConfig,
)
from lorefuse.config.deployment import DeploymentConfig, GuardConfig, ReplicaConfig
from lorefuse.config.drift import DriftConfig
from lorefuse.config.enrich import EnrichConfig
from lorefuse.config.knowledge import (
    EmbeddingConfig,
    FacetConfig,
    FeatureConfig,
    FineTuneConfig,
    KnowledgeConfig,
    OwnVectorsConfig,
)
from lorefuse.config.leaks import LeaksConfig
from lorefuse.config.learning import Arm, EvaluationConfig, PrivateTrainingConfig, TrainingConfig, TuningConfig
from lorefuse.config.load import load_config, load_deployment, parse_config
from lorefuse.config.models import (
    DCNV2Config,
    DeepFMConfig,
    DINConfig,
    FinalMLPConfig,
    FMConfig,
    LogisticRegressionConfig,
    ModelConfig,
    MultiTaskConfig,
    WideDeepConfig,
)
from lorefuse.config.pipeline import PipelineConfig
from lorefuse.config.privacy import PrivacyConfig
from lorefuse.config.retrieval import LightGCNConfig, RetrievalConfig, SASRecConfig, TwoTowerConfig
from lorefuse.config.serving import RegistryConfig, ServingConfig
from lorefuse.config.study import BaselineName, StudyConfig

__all__ = [
    "Arm",
    "AutoConfig",
    "BaselineName",
    "DCNV2Config",
    "DINConfig",
    "DataConfig",
    "DeepFMConfig",
    "DeploymentConfig",
    "DriftConfig",
    "EmbeddingConfig",
    "EnrichConfig",
    "EvaluationConfig",
    "FMConfig",
    "FacetConfig",
    "FeatureConfig",
    "FileSource",
    "FinalMLPConfig",
    "FineTuneConfig",
    "GuardConfig",
    "KnowledgeConfig",
    "LabelConfig",
    "LeaksConfig",
    "LightGCNConfig",
    "LogisticRegressionConfig",
    "ModelConfig",
    "MovieLensSource",
    "MultiTaskConfig",
    "NegativesConfig",
    "OwnVectorsConfig",
    "PipelineConfig",
    "PrivacyConfig",
    "PrivateTrainingConfig",
    "RegistryConfig",
    "ReplicaConfig",
    "RetrievalConfig",
    "SASRecConfig",
    "Section",
    "ServingConfig",
    "SplitConfig",
    "StudyConfig",
    "TrainingConfig",
    "TuningConfig",
    "TwoTowerConfig",
    "WideDeepConfig",
    "load_config",
    "load_deployment",
    "parse_config",
]
