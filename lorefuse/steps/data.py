"""Steps from raw files to a dataset and its parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lorefuse.config import parse_config
from lorefuse.core.log import reported
from lorefuse.core.step_cache import StepResult, reuse_or_build
from lorefuse.steps.common import Config, Folder, origins


@reported
def ingest(config: Config) -> StepResult:
    """Raw files → dataset folder."""
    pipeline = parse_config(config)
    from lorefuse.data.intake import Intake
    from lorefuse.data.sources import local_digests

    files, intake = local_digests(pipeline.data), Intake.of(pipeline.privacy, pipeline.data.source)

    def build(out_path: Path) -> dict[str, Any]:
        from lorefuse.data.ingest import ingest as run

        manifest = run(pipeline.data, out_path, intake)
        found = manifest["reports"].get("scrubbed", {}).values()
        scrubbed = {"scrubbed": sum(counts.get("num_texts", 0) for counts in found)} if intake.scrubber else {}
        return {**manifest["counts"], "quarantined": sum(manifest["quarantined"].values()), **scrubbed}

    key = {"data": pipeline.data.model_dump(mode="json"), "files": files, **intake.address}
    return reuse_or_build("ingest", config=key, inputs={}, build=build)


@reported
def split(config: Config, strategy: str, dataset: Folder) -> StepResult:
    """Dataset → parts in time, by `per_user_time` or `global_time`."""
    content = {**config.get("split", {}), "strategy": strategy}
    pipeline = parse_config({**config, "split": content})
    parts, negatives = pipeline.split, pipeline.data.negatives
    paths = origins(dataset=dataset)

    def build(out_path: Path) -> dict[str, Any]:
        from lorefuse.data.dataset import Dataset
        from lorefuse.data.split import split as run

        facts = run(Dataset.open(paths["dataset"]), parts, out_path, negatives)
        sampled = {"negatives": facts["num_negatives"]} if "num_negatives" in facts else {}
        return {"strategy": strategy, **facts["counts"], "cold_items": len(facts["held_out_items"]), **sampled}

    key = [parts.model_dump(), negatives.model_dump()]
    return reuse_or_build("split", config=key, inputs=paths, build=build)
