"""Parameters → how good they are."""

from kfp import dsl

from components.base import step


@step
def run_trial(
    config: dict,  # type: ignore[type-arg]
    arm: str,
    trial: dict,  # type: ignore[type-arg]
    study: dsl.Input[dsl.Artifact],
    training_set: dsl.Input[dsl.Dataset],
) -> str:
    """Train once on train rows and judge on validation rows.

    Args:
        config: `PipelineConfig` as a dict.
        arm: Knowledge given to the model.
        trial: Its number and parameters.
        study: Finished trials, against which pruning judges.
        training_set: Training set folder.

    Returns:
        The trial's record as JSON, also where it failed.
    """
    from lorefuse.steps import tuning as steps

    return steps.run_trial(config, arm, trial, study.path, training_set.path)
