"""The embedding pipeline: item texts encoded in shards side by side; `training` then finds every text in the cache."""

from kfp import dsl

from components.embed_ranges import embed_ranges
from components.embed_shard import embed_shard
from components.ingest import ingest
from components.join_shards import join_shards


@dsl.pipeline(  # type: ignore[untyped-decorator]
    name="lorefuse-embed-shards", description="Encode the catalogue's texts in shards, side by side"
)
def embed_shards(config: dict):  # type: ignore[no-untyped-def, type-arg]
    """Encode every item's text, each shard by itself; a shard that failed is run again alone.

    Args:
        config: `PipelineConfig` as a dict; `embedding.num_shards` shards.
    """
    data = ingest(config=config).outputs["dataset"]
    shards = embed_ranges(config=config)
    with dsl.ParallelFor(shards.output, name="shards") as shard:
        done = embed_shard(config=config, shard=shard, dataset=data)
    join_shards(config=config, dataset=data, parts=dsl.Collected(done.outputs["part"]))
