"""Studies of both arms → what the training pipeline can use."""

from kfp import dsl

from components.base import step


@step
def close_tuning(
    config: dict,  # type: ignore[type-arg]
    real: dsl.Input[dsl.Artifact],
    control: dsl.Input[dsl.Artifact],
    studies: dsl.Output[dsl.Artifact],
) -> None:
    """Keep both studies in the home, where `tuning.studies_path` can name them.

    Args:
        config: `PipelineConfig` as a dict.
        real: Study of the model with knowledge.
        control: Study of the model without, from as many trials.
        studies: A folder with both.
    """
    from lorefuse.steps import tuning as steps

    steps.close_tuning(config, real.path, control.path).publish(studies.path)
