"""Compile a pipeline to the YAML that a cluster runs: ``python -m pipelines.compile --pipeline training --out x.yaml``.

Two documents come out: the pipeline's intermediate representation, and what Kubernetes adds to each step.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

from kfp import compiler
from kfp.dsl.graph_component import GraphComponent

from lorefuse.config.cluster import ClusterConfig, load_cluster
from lorefuse.core.atomic import atomic_file
from lorefuse.core.errors import LorefuseError, UsageError
from pipelines.platform import on_cluster

FOLDER_PATH = Path(__file__).parent


def find_pipeline(name: str) -> GraphComponent:
    """Return the pipeline `name`: the function of that name in the file of that name below ``pipelines/``.

    Raises:
        UsageError: There is no such pipeline; those that exist are named.
    """
    if name in pipeline_names():
        return getattr(importlib.import_module(f"pipelines.{name}"), name)
    raise UsageError(f"There is no pipeline {name}.", expected=", ".join(pipeline_names()), got=name)


def pipeline_names() -> list[str]:
    """Return the names of all pipelines, by their decorator in the source."""
    files = sorted(FOLDER_PATH.glob("*.py"))
    return [path.stem for path in files if f"\ndef {path.stem}(" in (text := path.read_text("utf-8")) and
            "\n@dsl.pipeline" in text]  # fmt: skip


def compile_pipeline(name: str, out_path: Path, cluster: ClusterConfig) -> None:
    """Write a pipeline as YAML; nothing of the process's environment but LOREFUSE_IMAGE enters.

    Args:
        name: Name of the pipeline, e.g. ``training``.
        out_path: Where the YAML goes; it appears whole.
        cluster: Resources, secrets by name, storage.

    Raises:
        UsageError: There is no such pipeline, or the cluster file names steps that do not exist.
    """
    dressed = on_cluster(find_pipeline(name), cluster)
    with atomic_file(out_path) as draft_path:
        # The compiler judges the format by the ending.
        beside_path = draft_path.with_suffix(".yaml")
        compiler.Compiler().compile(dressed, str(beside_path))
        beside_path.rename(draft_path)


def main() -> int:
    """Parse arguments and compile."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pipeline", default="training", help="Which pipeline")
    parser.add_argument("--out", type=Path, help="Where the YAML goes; default: <pipeline>.yaml")
    parser.add_argument("--cluster", type=Path, help="Cluster file, e.g. pipelines/clusters/cpu.yaml")
    given = parser.parse_args()
    try:
        compile_pipeline(given.pipeline, given.out or Path(f"{given.pipeline}.yaml"), load_cluster(given.cluster))
    except LorefuseError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
