"""Feature sources as of now → the feature store, materialised incrementally."""

from kfp import dsl

from components.base import step


@step
def update_store(
    config: dict,  # type: ignore[type-arg]
    update: dsl.Input[dsl.Dataset],
    feature_data: dsl.Input[dsl.Dataset],
    store: dsl.Input[dsl.Artifact],
    fresh: dsl.Output[dsl.Artifact],
) -> None:
    """Materialise the snapshots that are later than the store.

    Args:
        config: `PipelineConfig` as a dict.
        update: Sources of every view, as of now.
        feature_data: What the store was filled from.
        store: The champion's feature store.
        fresh: The store with what is new.
    """
    from lorefuse.steps import refresh as steps

    steps.update_store(config, update.path, feature_data.path, store.path).publish(fresh.path)
