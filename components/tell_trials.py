"""A generation's records → the study that knows them."""

from typing import List  # noqa: UP035  (kfp reads the types of a list's items from this)

from kfp import dsl

from components.base import step


@step
def tell_trials(
    config: dict,  # type: ignore[type-arg]
    study: dsl.Input[dsl.Artifact],
    results: List[str],  # noqa: UP006
    told: dsl.Output[dsl.Artifact],
) -> None:
    """Tell the study how the trials ended.

    Args:
        config: `PipelineConfig` as a dict.
        study: The study that asked.
        results: Records of its trials, as JSON, in any order.
        told: The study with them.
    """
    from lorefuse.steps import tuning as steps

    steps.tell_trials(config, study.path, results).publish(told.path)
