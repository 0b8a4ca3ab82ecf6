"""Configuration → shards."""

from typing import Dict, List  # noqa: UP035  (kfp reads the types of a list's items from these)

from components.base import step


@step
def embed_ranges(config: dict) -> List[Dict]:  # type: ignore[type-arg]  # noqa: UP006
    """Name the shards of `embedding.num_shards`.

    Args:
        config: `PipelineConfig` as a dict.

    Returns:
        The number of each shard.
    """
    from lorefuse.steps import shards as steps

    return steps.embed_ranges(config)
