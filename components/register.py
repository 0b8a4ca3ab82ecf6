"""Model bundle → registered version, judged by the gate."""

from typing import NamedTuple

from kfp import dsl

from components.base import step


@step
def register(
    config: dict,  # type: ignore[type-arg]
    dataset: dsl.Input[dsl.Dataset],
    parts: dsl.Input[dsl.Dataset],
    rows: dsl.Input[dsl.Dataset],
    evaluation: dsl.Input[dsl.Artifact],
    model: dsl.Input[dsl.Model],
    page: dsl.Input[dsl.Artifact],
    store: dsl.Input[dsl.Artifact],
    choice: dsl.Input[dsl.Artifact],
) -> NamedTuple("Registered", [("version", str), ("promoted", bool)]):  # type: ignore[valid-type]
    """Register in MLflow as challenger; the gate makes it champion where it deserves it.

    Args:
        config: `PipelineConfig` as a dict.
        dataset: For lineage.
        parts: For lineage.
        rows: Rows that a champion of another test set would have to score.
        evaluation: Metrics and test scores.
        model: The bundle.
        page: The report.
        store: Online features, which travel with the version.
        choice: The race that chose the configuration.

    Returns:
        The version, and whether it is champion now.
    """
    from lorefuse import steps

    folders = (dataset.path, parts.path, rows.path, evaluation.path, model.path, page.path, store.path, choice.path)
    entry = steps.register(config, *folders)
    return entry["version"], entry["promoted"]
