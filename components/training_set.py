"""Feature store → training set, joined point in time."""

from kfp import dsl

from components.base import step


@step
def training_set(
    config: dict,  # type: ignore[type-arg]
    dataset: dsl.Input[dsl.Dataset],
    split: dsl.Input[dsl.Dataset],
    item_vectors: dsl.Input[dsl.Artifact],
    feature_data: dsl.Input[dsl.Dataset],
    store: dsl.Input[dsl.Artifact],
    training_set: dsl.Output[dsl.Dataset],
) -> None:
    """Join every row with the features of its own past; a lost row is an error.

    Args:
        config: `PipelineConfig` as a dict.
        dataset: Dataset folder.
        split: Split folder.
        item_vectors: Item vectors folder.
        feature_data: Feature data folder.
        store: Feature store folder.
        training_set: Training set folder.
    """
    from lorefuse import steps

    steps.training_set(config, dataset.path, split.path, item_vectors.path, feature_data.path, store.path).publish(
        training_set.path
    )
