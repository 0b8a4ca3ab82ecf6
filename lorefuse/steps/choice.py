"""The step that settles what a preset leaves open, before anything is fitted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from lorefuse.config import PipelineConfig, parse_config
from lorefuse.log import reported
from lorefuse.steps.common import Config, Folder, dump_config, origins
from lorefuse.workspace import StepResult, reuse_or_build


@reported
def choose(config: Config, dataset: Folder, parts: Folder, embeddings: Folder) -> StepResult:
    """Preset → the configuration that all later steps run with, in the summary as `config`.

    Without `auto` it is the preset itself. A race writes `choice.json`, and the choice also to
    `<home>/auto/<name>.yaml`, a preset that runs as it is.
    """
    pipeline = parse_config(config)
    if pipeline.auto is None:
        return _as_asked(config)
    paths = origins(dataset=dataset, parts=parts, embeddings=embeddings)

    def build(out_path: Path) -> dict[str, Any]:
        from lorefuse.auto.choose import choose as run

        return run(paths["dataset"], paths["parts"], pipeline, out_path)

    key = pipeline.model_dump(mode="json")
    return _pinned(pipeline, reuse_or_build("choose", config=key, inputs=paths, build=build))


def _as_asked(config: Config) -> StepResult:
    def build(out_path: Path) -> dict[str, Any]:
        return {"chosen": "as the preset says"}

    result = reuse_or_build("choose", config=None, inputs={}, build=build)
    return replace(result, summary={**result.summary, "config": config})


def _pinned(pipeline: PipelineConfig, result: StepResult) -> StepResult:
    from lorefuse.auto.pinned import pin

    chosen = pin(pipeline, result.path)
    return replace(result, summary={**result.summary, "config": dump_config(chosen)})
