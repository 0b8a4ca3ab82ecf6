"""Evaluation → HTML report."""

from kfp import dsl

from components.base import step


@step
def report(
    config: dict,  # type: ignore[type-arg]
    dataset: dsl.Input[dsl.Dataset],
    parts: dsl.Input[dsl.Dataset],
    vectors: dsl.Input[dsl.Artifact],
    evaluation: dsl.Input[dsl.Artifact],
    stages: dsl.Input[dsl.Artifact],
    choice: dsl.Input[dsl.Artifact],
    html: dsl.Output[dsl.HTML],
    page: dsl.Output[dsl.Artifact],
) -> None:
    """Write the report of a run.

    Args:
        config: `PipelineConfig` as a dict.
        dataset: Its manifest is shown.
        parts: Its cutoffs and counts are shown.
        vectors: Its graph report is shown.
        evaluation: Metrics, curves, scores.
        stages: What the served list is worth.
        choice: The race that chose the configuration.
        html: The page, as the pipeline's UI shows it.
        page: The report's folder.
    """
    import shutil

    from lorefuse import steps

    result = steps.report(config, dataset.path, parts.path, vectors.path, evaluation.path, stages.path, choice.path)
    result.publish(page.path)
    shutil.copyfile(result.path / "report.html", html.path)
