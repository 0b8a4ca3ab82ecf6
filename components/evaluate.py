"""Training sets and studies → metrics with controls."""

from kfp import dsl

from components.base import step


@step
def evaluate(
    config: dict,  # type: ignore[type-arg]
    training_set: dsl.Input[dsl.Dataset],
    second_training_set: dsl.Input[dsl.Dataset],
    study: dsl.Input[dsl.Artifact],
    control: dsl.Input[dsl.Artifact],
    evaluation: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Train every arm with every seed and read the test rows once.

    Args:
        config: `PipelineConfig` as a dict.
        training_set: Training set of the configured split.
        second_training_set: Training set of the other split.
        study: Hyper-parameters of the model with knowledge.
        control: Hyper-parameters of the model without, from as many trials.
        evaluation: Metrics, curves, scores and the ranker to register.
        metrics: The headline numbers.
    """
    from lorefuse import steps

    second = second_training_set.path if config.get("evaluation", {}).get("global_cut", True) else None
    result = steps.evaluate(config, training_set.path, study.path, control.path, second)
    result.publish(evaluation.path)
    for line, numbers in result.summary.items():
        for name, value in numbers.items():
            metrics.metadata[f"{line}/{name}"] = str(value)
