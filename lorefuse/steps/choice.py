"""The step that settles what a preset leaves open, before anything is fitted."""

from __future__ import annotations

from dataclasses import replace
from inspect import unwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorefuse.config import PipelineConfig, parse_config
from lorefuse.core.log import reported
from lorefuse.core.step_cache import StepResult, reuse_or_build
from lorefuse.steps.common import Config, Folder, dump_config, origins
from lorefuse.steps.knowledge import embed, item_vectors

if TYPE_CHECKING:
    from lorefuse.auto.choose import Vectors


@reported
def choose(config: Config, dataset: Folder, split: Folder, embeddings: Folder) -> StepResult:
    """Preset → the configuration that all later steps run with, in the summary as `config`.

    Without `auto` it is the preset itself. A race writes `choice.json`, and the choice also to
    `<home>/auto/<name>.yaml`, a preset that runs as it is.
    """
    pipeline = parse_config(config)
    if pipeline.auto is None:
        return _as_asked(config)
    paths = origins(dataset=dataset, split=split, embeddings=embeddings)

    def build(out_path: Path) -> dict[str, Any]:
        from lorefuse.auto.choose import choose as run

        return run(
            paths["dataset"], paths["split"], pipeline, raced_vectors(paths["dataset"], paths["split"]), out_path
        )

    key = pipeline.model_dump(mode="json")
    return _pinned(pipeline, reuse_or_build("choose", config=key, inputs=paths, build=build))


def raced_vectors(dataset_path: Path, split_path: Path) -> Vectors:
    """Return how a race gets vectors: by this pipeline's own steps, which find them finished after the race."""
    from lorefuse.auto.choose import Vectors

    def texts_of(config: PipelineConfig) -> Path:
        path: Path = unwrap(embed)(dump_config(config), dataset_path).path
        return path

    def items_of(config: PipelineConfig) -> Path:
        path: Path = unwrap(item_vectors)(dump_config(config), dataset_path, split_path, texts_of(config)).path
        return path

    return Vectors(texts_of, items_of)


def _as_asked(config: Config) -> StepResult:
    def build(out_path: Path) -> dict[str, Any]:
        return {"chosen": "as the preset says"}

    result = reuse_or_build("choose", config=None, inputs={}, build=build)
    return replace(result, summary={**result.summary, "config": config})


def _pinned(pipeline: PipelineConfig, result: StepResult) -> StepResult:
    from lorefuse.auto.pinned import pin

    chosen = pin(pipeline, result.path)
    return replace(result, summary={**result.summary, "config": dump_config(chosen)})
