"""Grown dataset → feature sources as of now."""

from kfp import dsl

from components.base import step


@step
def update_features(
    config: dict,  # type: ignore[type-arg]
    dataset: dsl.Input[dsl.Dataset],
    base: dsl.Input[dsl.Dataset],
    embeddings: dsl.Input[dsl.Artifact],
    item_vectors: dsl.Input[dsl.Artifact],
    feature_data: dsl.Input[dsl.Dataset],
    update: dsl.Output[dsl.Dataset],
) -> None:
    """Count every row there is, with the vectors, vocabularies and prior of the champion.

    Args:
        config: `PipelineConfig` as a dict.
        dataset: The grown dataset.
        base: The champion's dataset.
        embeddings: Text vectors of the grown dataset.
        item_vectors: The champion's item vectors.
        feature_data: The champion's feature data.
        update: Sources of every view.
    """
    from lorefuse.steps import refresh as steps

    steps.update_features(
        config, dataset.path, base.path, embeddings.path, item_vectors.path, feature_data.path
    ).publish(update.path)
