"""Step from a trained ranker to what it gives away about its train rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lorefuse.config import parse_config
from lorefuse.core.log import reported
from lorefuse.core.step_cache import StepResult, reuse_or_build
from lorefuse.steps.common import Config, Folder, origins

_ROOMS = ("features", "models", "training", "tuning", "leaks")


@reported
def membership(config: Config, training_set: Folder, evaluation: Folder) -> StepResult:
    """Training set and trained ranker → how well attacks tell its train rows: `membership.json`."""
    pipeline = parse_config(config)
    paths = origins(training_set=training_set, evaluation=evaluation)

    def build(out_path: Path) -> dict[str, Any]:
        from lorefuse.leaks.run import measure_membership

        return measure_membership(paths["training_set"], paths["evaluation"], pipeline, out_path)

    sections = ("data", "model", "training", "leaks")
    key = {name: getattr(pipeline, name).model_dump(mode="json") for name in sections}
    return reuse_or_build("membership", config=key, inputs=paths, rooms=_ROOMS, build=build)
