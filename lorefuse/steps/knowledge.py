"""Steps from texts and graph to vectors of every item."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lorefuse.config import parse_config
from lorefuse.config.knowledge import REDUCTION_FIELDS
from lorefuse.core.errors import ConfigError
from lorefuse.core.log import reported
from lorefuse.core.step_cache import StepResult, reuse_or_build
from lorefuse.embedding.source import resolve
from lorefuse.steps.common import Config, Folder, origins, own_digests


@reported
def embed(config: Config, dataset: Folder) -> StepResult:
    """Dataset → one text vector per item."""
    embedding = parse_config(config).embedding
    paths = origins(dataset=dataset)
    written = {column: Path(folder).expanduser() for column, folder in sorted(embedding.written.items())}
    for column, folder in written.items():
        if not folder.is_dir():
            raise ConfigError(f"embedding.written.{column} is no folder.", got=str(folder), fix="lorefuse enrich")

    def build(out_path: Path) -> dict[str, Any]:
        from lorefuse.data.dataset import Dataset
        from lorefuse.embedding.embed import embed_items

        facts = embed_items(Dataset.open(paths["dataset"]), embedding, out_path, written)
        choice = {"choice": facts["choice"]} if "choice" in facts else {}
        return {name: facts[name] for name in ("dim", "num_cached", "num_encoded", "encode_s")} | choice

    # Facets stay in: each is a text of its own to encode.
    apart = {*REDUCTION_FIELDS, "num_threads", "num_shards", "fine_tune"} - {"facets"}
    key: dict[str, Any] = {"embedding": embedding.model_dump(mode="json", exclude=apart)}
    if Path(embedding.encoder).expanduser().is_dir():
        key["revision"] = resolve(embedding).revision  # a folder may hold other weights under its old name
    inputs = paths | {f"written_{column}": folder for column, folder in written.items()}
    return reuse_or_build("embed", config=key, inputs=inputs, build=build)


@reported
def item_vectors(config: Config, dataset: Folder, split: Folder, embeddings: Folder) -> StepResult:
    """Embeddings and graph → vectors fitted on train items."""
    pipeline = parse_config(config)
    paths = origins(dataset=dataset, split=split, embeddings=embeddings)
    if pipeline.embedding.written_users:
        paths["written_users"] = Path(pipeline.embedding.written_users).expanduser()
        if not paths["written_users"].is_dir():
            got, fix = pipeline.embedding.written_users, "lorefuse enrich --about users"
            raise ConfigError("embedding.written_users is no folder.", got=got, fix=fix)

    def build(out_path: Path) -> dict[str, Any]:
        from lorefuse.data.dataset import Dataset
        from lorefuse.knowledge.item_vectors import build_item_vectors

        facts = build_item_vectors(
            Dataset.open(paths["dataset"]),
            paths["split"],
            paths["embeddings"],
            pipeline.embedding,
            pipeline.knowledge,
            out_path,
        )
        own = {name: entry["num_items"] for name, entry in facts["own"].items()}
        return {"dims": facts["dims"], "graph": facts["graph"], **facts["users"], **({"own": own} if own else {})}

    key = [
        pipeline.embedding.model_dump(mode="json", include=set(REDUCTION_FIELDS)),
        pipeline.knowledge.model_dump(mode="json"),
        own_digests(pipeline),
    ]
    return reuse_or_build("item_vectors", config=key, inputs=paths, build=build)
