"""Training set → hyper-parameters of one arm."""

from kfp import dsl

from components.base import step


@step
def tune(config: dict, arm: str, training_set: dsl.Input[dsl.Dataset], study: dsl.Output[dsl.Artifact]) -> None:  # type: ignore[type-arg]
    """Search hyper-parameters on validation rows; the control gets the same number of trials.

    Args:
        config: `PipelineConfig` as a dict.
        arm: Knowledge given to the model, e.g. `real` or `none`.
        training_set: Training set folder.
        study: Every trial and the best parameters.
    """
    from lorefuse import steps

    steps.tune(config, arm, training_set.path).publish(study.path)
