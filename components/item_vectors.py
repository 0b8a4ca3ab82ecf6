"""Embeddings and knowledge graph → item vectors fitted on train items."""

from kfp import dsl

from components.base import step


@step
def item_vectors(
    config: dict,  # type: ignore[type-arg]
    dataset: dsl.Input[dsl.Dataset],
    split: dsl.Input[dsl.Dataset],
    embeddings: dsl.Input[dsl.Artifact],
    item_vectors: dsl.Output[dsl.Artifact],
) -> None:
    """Reduce text vectors and decompose the item-entity graph.

    Args:
        config: `PipelineConfig` as a dict.
        dataset: Dataset folder.
        split: Split folder.
        embeddings: Embeddings folder.
        item_vectors: Reduced text and graph vectors of every item.
    """
    from lorefuse import steps

    steps.item_vectors(config, dataset.path, split.path, embeddings.path).publish(item_vectors.path)
