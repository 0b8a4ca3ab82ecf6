"""Model bundle → registered version, judged by the gate."""

from typing import NamedTuple

from kfp import dsl

from components.base import step


@step
def register(
    config: dict,  # type: ignore[type-arg]
    dataset: dsl.Input[dsl.Dataset],
    split: dsl.Input[dsl.Dataset],
    training_set: dsl.Input[dsl.Dataset],
    evaluation: dsl.Input[dsl.Artifact],
    bundle: dsl.Input[dsl.Model],
    report: dsl.Input[dsl.Artifact],
    store: dsl.Input[dsl.Artifact],
    choice: dsl.Input[dsl.Artifact],
) -> NamedTuple("Registered", [("version", str), ("promoted", bool)]):  # type: ignore[valid-type]
    """Register in MLflow as challenger; the gate makes it champion where it deserves it.

    Args:
        config: `PipelineConfig` as a dict.
        dataset: For lineage.
        split: For lineage.
        training_set: Rows that a champion of another test set would have to score.
        evaluation: Metrics and test scores.
        bundle: The bundle.
        report: The report.
        store: Online features, which travel with the version.
        choice: The race that chose the configuration.

    Returns:
        The version, and whether it is champion now.
    """
    from lorefuse import steps

    folders = (
        dataset.path,
        split.path,
        training_set.path,
        evaluation.path,
        bundle.path,
        report.path,
        store.path,
        choice.path,
    )
    entry = steps.register(config, *folders)
    return entry["version"], entry["promoted"]
