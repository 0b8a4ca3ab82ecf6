"""Dataset → train, validation and test in time."""

from kfp import dsl

from components.base import step


@step
def split(config: dict, strategy: str, dataset: dsl.Input[dsl.Dataset], split: dsl.Output[dsl.Dataset]) -> None:  # type: ignore[type-arg]
    """Split by time and hold out cold items.

    Args:
        config: `PipelineConfig` as a dict.
        strategy: `per_user_time` or `global_time`.
        dataset: Dataset folder.
        split: The part and the cold mask of every row.
    """
    from lorefuse import steps

    steps.split(config, strategy, dataset.path).publish(split.path)
