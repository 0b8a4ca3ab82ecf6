"""A shard's texts → vectors."""

from kfp import dsl

from components.base import step


@step
def embed_shard(
    config: dict,  # type: ignore[type-arg]
    shard: dict,  # type: ignore[type-arg]
    dataset: dsl.Input[dsl.Dataset],
    part: dsl.Output[dsl.Artifact],
) -> None:
    """Encode the texts whose hash falls in the shard's range; what the cache holds costs nothing.

    Args:
        config: `PipelineConfig` as a dict.
        shard: Its number.
        dataset: Dataset folder.
        part: Addresses and vectors.
    """
    from lorefuse.steps import shards as steps

    steps.embed_shard(config, shard, dataset.path).publish(part.path)
