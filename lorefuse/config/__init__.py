"""One YAML preset becomes one frozen `PipelineConfig`; a section per stage, a description under every field."""

from lorefuse.config.base import Section
from lorefuse.config.data import DataConfig, FileSource, LabelConfig, MovieLensSource, SplitConfig
from lorefuse.config.knowledge import EmbeddingConfig, FeatureConfig, KnowledgeConfig
from lorefuse.config.learning import Arm, EvaluationConfig, TrainingConfig, TuningConfig
from lorefuse.config.load import load_config, parse_config
from lorefuse.config.models import DeepFMConfig, ModelConfig
from lorefuse.config.pipeline import PipelineConfig
from lorefuse.config.serving import RegistryConfig, ServingConfig

__all__ = [
    "Arm",
    "DataConfig",
    "DeepFMConfig",
    "EmbeddingConfig",
    "EvaluationConfig",
    "FeatureConfig",
    "FileSource",
    "KnowledgeConfig",
    "LabelConfig",
    "ModelConfig",
    "MovieLensSource",
    "PipelineConfig",
    "RegistryConfig",
    "Section",
    "ServingConfig",
    "SplitConfig",
    "TrainingConfig",
    "TuningConfig",
    "load_config",
    "parse_config",
]
