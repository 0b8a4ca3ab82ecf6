"""`choice.json`, the race that chose a configuration: what its readers need to know of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lorefuse.config import PipelineConfig
from lorefuse.core.atomic import sha256_json
from lorefuse.core.errors import ArtifactError

CHOICE_FILE = "choice.json"
_KEYS = {"asked", "auto", "chosen", "why", "score", "elapsed_s", "configurations", "sequence", "config"}


def read_choice(folder_path: Path | None) -> dict[str, Any] | None:
    """Return `choice.json` of a folder; None where no race was run.

    Raises:
        ArtifactError: It is cut short.
    """
    path = None if folder_path is None else folder_path / CHOICE_FILE
    if path is None or not path.is_file():
        return None
    try:
        content = json.loads(path.read_text("utf-8"))
        missing = _KEYS - content.keys()
    except (OSError, ValueError, AttributeError) as error:
        raise ArtifactError(f"{path} is not whole.", got=str(error), fix="lorefuse run") from None
    if missing:
        raise ArtifactError(f"{path} is not whole.", expected=", ".join(sorted(missing)), fix="lorefuse run")
    return dict(content)


def asked_digest(config: PipelineConfig) -> str:
    """Return the digest of what a preset asks for, by which a pinned choice is known as its own."""
    return sha256_json(config.model_dump(mode="json"))
