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

    Returns:
        The version, and whether it is champion now.
    """
    from lorefuse import steps

    entry = steps.register(
        config, dataset.path, parts.path, rows.path, evaluation.path, model.path, page.path, store.path
    )
    return entry["version"], entry["promoted"]
