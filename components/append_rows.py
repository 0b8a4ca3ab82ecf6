"""Dataset and new files → the dataset that holds both."""

from kfp import dsl

from components.base import step


@step
def append_rows(
    config: dict,  # type: ignore[type-arg]
    dataset: dsl.Input[dsl.Dataset],
    new_path: str,
    new_items_path: str,
    grown: dsl.Output[dsl.Dataset],
) -> None:
    """Validate new rows, leave out those that are known, and append the rest.

    Args:
        config: `PipelineConfig` as a dict.
        dataset: The dataset so far.
        new_path: File with new interactions, or a folder of them.
        new_items_path: File with new or changed items; empty where there is none.
        grown: The dataset with them.
    """
    from lorefuse.steps import refresh as steps

    steps.append_rows(config, dataset.path, new_path, new_items_path).publish(grown.path)
