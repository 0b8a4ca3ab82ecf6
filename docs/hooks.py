"""For mkdocs: a link that leads out of docs/, into the code or the measurements, is shown as the path it names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

DOCS_PATH = Path(__file__).resolve().parent
_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((\.\./[^)#\s]+)(#[^)\s]*)?\)")


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Rewrite one page."""
    folder_path = (DOCS_PATH / page.file.src_path).parent

    def shown(match: re.Match[str]) -> str:
        path = (folder_path / match[2]).resolve()
        if path.is_relative_to(DOCS_PATH):
            return match[0]
        return f"{match[1]} (`{path.relative_to(DOCS_PATH.parent).as_posix()}`)"

    return _LINK.sub(shown, markdown)
