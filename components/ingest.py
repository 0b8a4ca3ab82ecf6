"""Raw files → validated dataset."""

from kfp import dsl

from components.base import step


@step
def ingest(config: dict, dataset: dsl.Output[dsl.Dataset]) -> None:  # type: ignore[type-arg]
    """Read, validate and quarantine raw data.

    Args:
        config: `PipelineConfig` as a dict.
        dataset: Parquet files, manifest and quarantine.
    """
    from lorefuse import steps

    steps.ingest(config).publish(dataset.path)
