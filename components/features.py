"""Train rows → feature data: aggregates stamped strictly before any label that may see them."""

from kfp import dsl

from components.base import step


@step
def features(
    config: dict,  # type: ignore[type-arg]
    dataset: dsl.Input[dsl.Dataset],
    split: dsl.Input[dsl.Dataset],
    item_vectors: dsl.Input[dsl.Artifact],
    feature_data: dsl.Output[dsl.Dataset],
) -> None:
    """Build vocabularies, the item prior and one Parquet source per feature view.

    Args:
        config: `PipelineConfig` as a dict.
        dataset: Dataset folder.
        split: Split folder.
        item_vectors: Item vectors folder.
        feature_data: Sources of the feature store, vocabularies, prior and spec.
    """
    from lorefuse import steps

    steps.features(config, dataset.path, split.path, item_vectors.path).publish(feature_data.path)
