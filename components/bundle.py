"""Trained ranker → bundle."""

from kfp import dsl

from components.base import step


@step
def bundle(
    config: dict,  # type: ignore[type-arg]
    dataset: dsl.Input[dsl.Dataset],
    embeddings: dsl.Input[dsl.Artifact],
    item_vectors: dsl.Input[dsl.Artifact],
    feature_data: dsl.Input[dsl.Dataset],
    training_set: dsl.Input[dsl.Dataset],
    evaluation: dsl.Input[dsl.Artifact],
    lists: dsl.Input[dsl.Artifact],
    bundle: dsl.Output[dsl.Model],
) -> None:
    """Export to ONNX, hold the graphs to torch, and gather everything a model version carries.

    Args:
        config: `PipelineConfig` as a dict.
        dataset: Ids and titles of the catalogue.
        embeddings: The embedding's address.
        item_vectors: The text reducer.
        feature_data: Vocabularies, views, prior.
        training_set: Training set folder.
        evaluation: The trained ranker and its metrics.
        lists: Candidates, and what the list is worth.
        bundle: The bundle.
    """
    from lorefuse import steps

    steps.bundle(
        config,
        dataset.path,
        embeddings.path,
        item_vectors.path,
        feature_data.path,
        training_set.path,
        evaluation.path,
        lists.path,
    ).publish(bundle.path)
