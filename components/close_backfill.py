"""Ranges of days → one folder."""

from typing import List  # noqa: UP035  (kfp reads the type of a list of artifacts from this)

from kfp import dsl

from components.base import step


@step
def close_backfill(
    config: dict,  # type: ignore[type-arg]
    parts: dsl.Input[List[dsl.Dataset]],  # noqa: UP006
    features: dsl.Output[dsl.Dataset],
) -> None:
    """Keep all ranges together in the home, with a manifest.

    Args:
        config: `PipelineConfig` as a dict.
        parts: Parquet files by range.
        features: All of them.
    """
    from lorefuse.steps import backfill as steps

    steps.close_backfill(config, [part.path for part in parts]).publish(features.path)
