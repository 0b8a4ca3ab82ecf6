"""Champion and new rows → train again or not, and why."""

from typing import NamedTuple

from kfp import dsl

from components.base import step


@step
def judge_refresh(
    config: dict,  # type: ignore[type-arg]
    version: str,
    dataset: dsl.Input[dsl.Dataset],
    base: dsl.Input[dsl.Dataset],
    split: dsl.Input[dsl.Dataset],
    embeddings: dsl.Input[dsl.Artifact],
    item_vectors: dsl.Input[dsl.Artifact],
    feature_data: dsl.Input[dsl.Dataset],
    bundle: dsl.Input[dsl.Model],
    report: dsl.Output[dsl.Artifact],
) -> NamedTuple("Judged", [("retrain", bool), ("grown_config", dict)]):  # type: ignore[valid-type]
    """Score new rows, look for drift and decay, and say what follows.

    Args:
        config: `PipelineConfig` as a dict; its section `drift` decides.
        version: Number of the champion.
        dataset: The grown dataset.
        base: The champion's dataset.
        split: Its split.
        embeddings: Text vectors of the grown dataset.
        item_vectors: The champion's item vectors.
        feature_data: The champion's feature data.
        bundle: The champion.
        report: `refresh.json` and the HTML report.

    Returns:
        Whether to train again, and the configuration that trains on the grown dataset.
    """
    from lorefuse.steps import refresh as steps

    folders = (dataset.path, base.path, split.path, embeddings.path, item_vectors.path, feature_data.path, bundle.path)
    result = steps.judge_refresh(config, *folders, version)
    result.publish(report.path)
    return result.summary["retrain"], result.summary["config"]
