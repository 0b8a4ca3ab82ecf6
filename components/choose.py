"""Preset → the configuration that wins on this data, or the preset itself."""

from typing import NamedTuple

from kfp import dsl

from components.base import step


@step
def choose(
    config: dict,  # type: ignore[type-arg]
    dataset: dsl.Input[dsl.Dataset],
    split: dsl.Input[dsl.Dataset],
    embeddings: dsl.Input[dsl.Artifact],
    choice: dsl.Output[dsl.Artifact],
) -> NamedTuple("Chosen", [("chosen_config", dict)]):  # type: ignore[valid-type]
    """Race the portfolio on validation rows, where the preset leaves the model open.

    Args:
        config: `PipelineConfig` as a dict; without its section `auto` nothing is raced.
        dataset: Dataset folder.
        split: Split folder.
        embeddings: Text vectors as the preset asks for them.
        choice: `choice.json`, the race; empty where there was none.

    Returns:
        The configuration that all later steps take.
    """
    from lorefuse import steps

    result = steps.choose(config, dataset.path, split.path, embeddings.path)
    result.publish(choice.path)
    return (result.summary["config"],)
