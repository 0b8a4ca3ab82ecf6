"""Files with what was measured; light to import."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lorefuse.core.errors import ArtifactError

MEMBERSHIP_FILE, LEAKS_FILE, LEAKS_PAGE = "membership.json", "leaks.json", "leaks.html"


def read_content(path: Path) -> dict[str, Any]:
    """Return the content of a JSON file.

    Raises:
        ArtifactError: It is missing or cut short.
    """
    try:
        content: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path} cannot be read.", got=str(error)[:200], fix="lorefuse run") from None
    return content
