"""Evaluation → HTML report."""

from kfp import dsl

from components.base import step


@step
def report(
    config: dict,  # type: ignore[type-arg]
    dataset: dsl.Input[dsl.Dataset],
    split: dsl.Input[dsl.Dataset],
    item_vectors: dsl.Input[dsl.Artifact],
    evaluation: dsl.Input[dsl.Artifact],
    lists: dsl.Input[dsl.Artifact],
    choice: dsl.Input[dsl.Artifact],
    html: dsl.Output[dsl.HTML],
    report: dsl.Output[dsl.Artifact],
) -> None:
    """Write the report of a run.

    Args:
        config: `PipelineConfig` as a dict.
        dataset: Its manifest is shown.
        split: Its cutoffs and counts are shown.
        item_vectors: Its graph report is shown.
        evaluation: Metrics, curves, scores.
        lists: What the served list is worth.
        choice: The race that chose the configuration.
        html: The report, as the pipeline's UI shows it.
        report: The report's folder.
    """
    import shutil

    from lorefuse import steps

    result = steps.report(config, dataset.path, split.path, item_vectors.path, evaluation.path, lists.path, choice.path)
    result.publish(report.path)
    shutil.copyfile(result.path / "report.html", html.path)
