"""Trained ranker → model bundle."""

from kfp import dsl

from components.base import step


@step
def bundle(
    config: dict,  # type: ignore[type-arg]
    dataset: dsl.Input[dsl.Dataset],
    embeddings: dsl.Input[dsl.Artifact],
    vectors: dsl.Input[dsl.Artifact],
    feature_data: dsl.Input[dsl.Dataset],
    rows: dsl.Input[dsl.Dataset],
    evaluation: dsl.Input[dsl.Artifact],
    stages: dsl.Input[dsl.Artifact],
    model: dsl.Output[dsl.Model],
) -> None:
    """Export to ONNX, hold the graphs to torch, and gather everything a model version carries.

    Args:
        config: `PipelineConfig` as a dict.
        dataset: Ids and titles of the catalogue.
        embeddings: The embedding's address.
        vectors: The text reducer.
        feature_data: Vocabularies, views, prior.
        rows: Training set folder.
        evaluation: The trained ranker and its metrics.
        stages: Candidates, and what the list is worth.
        model: The bundle.
    """
    from lorefuse import steps

    steps.bundle(
        config,
        dataset.path,
        embeddings.path,
        vectors.path,
        feature_data.path,
        rows.path,
        evaluation.path,
        stages.path,
    ).publish(model.path)
