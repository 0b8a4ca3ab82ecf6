"""A range of days → its features."""

from kfp import dsl

from components.base import step


@step
def backfill_days(
    config: dict,  # type: ignore[type-arg]
    days: dict,  # type: ignore[type-arg]
    dataset: dsl.Input[dsl.Dataset],
    feature_data: dsl.Input[dsl.Dataset],
    store: dsl.Input[dsl.Artifact],
    part: dsl.Output[dsl.Dataset],
) -> None:
    """Join the interactions of some days with the features of their own past.

    Args:
        config: `PipelineConfig` as a dict.
        days: `first` and `last` day.
        dataset: Dataset folder.
        feature_data: Feature data folder.
        store: Feature store folder.
        part: A Parquet file.
    """
    from lorefuse.steps import backfill as steps

    steps.backfill_days(config, days, dataset.path, feature_data.path, store.path).publish(part.path)
