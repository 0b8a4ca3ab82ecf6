"""Feature data → feature store, with its online store."""

from kfp import dsl

from components.base import step


@step
def materialize(config: dict, feature_data: dsl.Input[dsl.Dataset], store: dsl.Output[dsl.Artifact]) -> None:  # type: ignore[type-arg]
    """Apply `feature_repo/` to a Feast registry and fill its online store.

    Args:
        config: `PipelineConfig` as a dict.
        feature_data: Feature data folder.
        store: Registry and online store.
    """
    from lorefuse import steps

    steps.materialize(config, feature_data.path).publish(store.path)
