"""Parts of all shards → embeddings."""

from typing import List  # noqa: UP035  (kfp reads the type of a list of artifacts from this)

from kfp import dsl

from components.base import step


@step
def join_shards(
    config: dict,  # type: ignore[type-arg]
    dataset: dsl.Input[dsl.Dataset],
    parts: dsl.Input[List[dsl.Artifact]],  # noqa: UP006
    embeddings: dsl.Output[dsl.Artifact],
) -> None:
    """Bring all parts into the cache and write the embeddings folder that `embed` would.

    Args:
        config: `PipelineConfig` as a dict.
        dataset: Dataset folder.
        parts: One folder a shard.
        embeddings: One vector per item and the address that made it.
    """
    from lorefuse.steps import shards as steps

    steps.join_shards(config, dataset.path, [part.path for part in parts]).publish(embeddings.path)
