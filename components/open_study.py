"""Nothing → an empty study."""

from kfp import dsl

from components.base import step


@step
def open_study(config: dict, arm: str, study: dsl.Output[dsl.Artifact]) -> None:  # type: ignore[type-arg]
    """Begin a study of one arm.

    Args:
        config: `PipelineConfig` as a dict.
        arm: Knowledge given to the model: `real` or `none`.
        study: A study without trials.
    """
    from lorefuse.steps import tuning as steps

    steps.open_study(config, arm).publish(study.path)
