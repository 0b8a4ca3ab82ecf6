"""A pipeline with the inputs of the training pipeline and two of its steps: compiled in a tenth of the time."""

from kfp import dsl

from components.embed import embed
from components.ingest import ingest


@dsl.pipeline(name="lorefuse-small")
def small(config: dict, strategy: str = "per_user_time", second_strategy: str = "global_time", serve: bool = True):  # type: ignore[no-untyped-def, type-arg]
    """Read data and encode it."""
    embed(config=config, dataset=ingest(config=config).outputs["dataset"])
