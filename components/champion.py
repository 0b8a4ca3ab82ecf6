"""Registry → the champion."""

from kfp import dsl

from components.base import step


@step
def champion(config: dict, dataset: dsl.Input[dsl.Dataset], bundle: dsl.Output[dsl.Model]) -> str:  # type: ignore[type-arg]
    """Fetch the champion's bundle; it must have been trained on this dataset.

    Args:
        config: `PipelineConfig` as a dict.
        dataset: Dataset folder.
        bundle: The bundle.

    Returns:
        Number of the version.
    """
    from lorefuse.steps import refresh as steps

    result = steps.champion(config, dataset.path)
    result.publish(bundle.path)
    return str(result.summary["version"])
