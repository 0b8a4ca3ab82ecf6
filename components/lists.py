"""Trained rankers → the list that users see, judged."""

from kfp import dsl

from components.base import step


@step
def lists(
    config: dict,  # type: ignore[type-arg]
    embeddings: dsl.Input[dsl.Artifact],
    training_set: dsl.Input[dsl.Dataset],
    evaluation: dsl.Input[dsl.Artifact],
    lists: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Fit candidates and what orders them, and judge the lists beside simple recommenders and other knowledge.

    Args:
        config: `PipelineConfig` as a dict.
        embeddings: Full text vectors of the items.
        training_set: Training set folder.
        evaluation: The trained ranker of each arm.
        lists: Both lists of the served list, and what it is worth.
        metrics: NDCG of known and new items by list.
    """
    from lorefuse import steps

    result = steps.lists(config, embeddings.path, training_set.path, evaluation.path)
    result.publish(lists.path)
    for name, value in result.summary.items():
        metrics.metadata[name] = str(value)
