"""Compile a pipeline to the YAML that a cluster runs: ``python -m pipelines.compile --out training.yaml``."""

from __future__ import annotations

import argparse
from pathlib import Path

from kfp import compiler

from lorefuse.atomic import atomic_file
from pipelines.training import training


def compile_training(out_path: Path) -> None:
    """Write the training pipeline as YAML; the image comes from LOREFUSE_IMAGE, secrets from nowhere."""
    with atomic_file(out_path) as draft_path:
        # The compiler judges the format by the ending.
        beside_path = draft_path.with_suffix(".yaml")
        compiler.Compiler().compile(training, str(beside_path))
        beside_path.rename(draft_path)


def main() -> None:
    """Parse arguments and compile."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("training.yaml"), help="Where the YAML goes")
    compile_training(parser.parse_args().out)


if __name__ == "__main__":
    main()
