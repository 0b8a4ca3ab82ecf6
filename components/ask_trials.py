"""Study → the next trials."""

from typing import Dict, List  # noqa: UP035  (kfp reads the types of a list's items from these)

from kfp import dsl

from components.base import step


@step
def ask_trials(
    config: dict,  # type: ignore[type-arg]
    generation: int,
    num_generations: int,
    study: dsl.Input[dsl.Artifact],
) -> List[Dict]:  # type: ignore[type-arg]  # noqa: UP006
    """Ask the study what to try next.

    Args:
        config: `PipelineConfig` as a dict.
        generation: Number of the generation, from 0.
        num_generations: Into how many the trials are divided.
        study: The study so far.

    Returns:
        A number and parameters for each trial.
    """
    from lorefuse.steps import tuning as steps

    return steps.ask_trials(config, generation, num_generations, study.path)
