"""Options that many commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

CONFIG_FILE = "lorefuse.yaml"
ConfigOption = Annotated[
    Path,
    typer.Option(
        "--config",
        default_factory=lambda: Path(CONFIG_FILE),
        show_default=CONFIG_FILE,
        help="YAML preset, e.g. pipelines/configs/movielens_100k.yaml",
    ),
]
