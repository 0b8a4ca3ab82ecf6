"""Feature store → training set, joined point in time."""

from kfp import dsl

from components.base import step


@step
def training_set(
    config: dict,  # type: ignore[type-arg]
    dataset: dsl.Input[dsl.Dataset],
    parts: dsl.Input[dsl.Dataset],
    vectors: dsl.Input[dsl.Artifact],
    feature_data: dsl.Input[dsl.Dataset],
    store: dsl.Input[dsl.Artifact],
    rows: dsl.Output[dsl.Dataset],
) -> None:
    """Join every row with the features of its own past; a lost row is an error.

    Args:
        config: `PipelineConfig` as a dict.
        dataset: Dataset folder.
        parts: Split folder.
        vectors: Item vectors folder.
        feature_data: Feature data folder.
        store: Feature store folder.
        rows: Training set folder.
    """
    from lorefuse import steps

    steps.training_set(config, dataset.path, parts.path, vectors.path, feature_data.path, store.path).publish(rows.path)
