"""Steps of the pipeline that encodes texts in shards: name the shards, encode each by itself, put them together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lorefuse.config import parse_config
from lorefuse.core.log import reported
from lorefuse.core.step_cache import StepResult, origin, read_digest, reuse_or_build
from lorefuse.steps.common import Config, Folder
from lorefuse.steps.knowledge import embed


@reported
def embed_ranges(config: Config) -> list[dict[str, Any]]:
    """`embedding.num_shards` → the shards, each a number."""
    return [{"shard": number} for number in range(parse_config(config).embedding.num_shards)]


@reported
def embed_shard(config: Config, shard: dict[str, Any], dataset: Folder) -> StepResult:
    """Dataset → the vectors of one shard, in the shared cache and as a part."""
    embedding = parse_config(config).embedding
    written = {column: Path(folder).expanduser() for column, folder in sorted(embedding.written.items())}
    paths = {"dataset": origin(Path(dataset))} | {f"written_{column}": path for column, path in written.items()}

    def build(out_path: Path) -> dict[str, Any]:
        from lorefuse.data.dataset import Dataset
        from lorefuse.embedding.shards import embed_shard as run

        return run(Dataset.open(paths["dataset"]), embedding, int(shard["shard"]), out_path, written)

    key: dict[str, Any] = {"embedding": embedding.model_dump(mode="json", exclude={"num_threads", "fine_tune"})}
    if Path(embedding.encoder).expanduser().is_dir():
        key["encoder"] = read_digest(Path(embedding.encoder).expanduser())
    key["shard"] = int(shard["shard"])
    return reuse_or_build("embed_shard", config=key, inputs=paths, build=build)


@reported
def join_shards(config: Config, dataset: Folder, parts: Sequence[Folder]) -> StepResult:
    """All parts → what `steps.embed` makes of them, which finds every text in the cache."""
    from lorefuse.embedding.shards import adopt_parts

    adopt_parts([origin(Path(part)) for part in parts], parse_config(config).embedding)
    return embed(config, dataset)
