"""For mkdocs: a notebook becomes a page, and a link that leads out of docs/ is shown as the path it names."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

DOCS_PATH = Path(__file__).resolve().parent
_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((\.\./[^)#\s]+)(#[^)\s]*)?\)")
_NOTEBOOK_LINK = re.compile(r"(\]\((?!\w+://)[^)#\s]+)\.ipynb(#[^)\s]*)?\)")


def on_files(files: Any, *, config: Any) -> Any:
    """Give each notebook a page beside it; the notebook itself stays a file that can be fetched."""
    from mkdocs.structure.files import File

    for file in [one for one in files if one.src_uri.endswith(".ipynb")]:
        path = Path(file.abs_src_path)
        fetch = f'<a href="{path.name}" download>This page is a notebook</a>: fetch it and run it.'
        page = f"{notebook_markdown(path)}\n\n{fetch}\n"
        files.append(File.generated(config, file.src_uri.removesuffix(".ipynb") + ".md", content=page))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Rewrite one page."""
    folder_path = (DOCS_PATH / page.file.src_path).parent

    def shown(match: re.Match[str]) -> str:
        path = (folder_path / match[2]).resolve()
        if path.is_relative_to(DOCS_PATH):
            return match[0]
        return f"{match[1]} (`{path.relative_to(DOCS_PATH.parent).as_posix()}`)"

    return _NOTEBOOK_LINK.sub(r"\1.md\2)", _LINK.sub(shown, markdown))


def notebook_markdown(path: Path) -> str:
    """Return a notebook as Markdown: its words, its code, and what each cell said when it was last run."""
    parts = []
    for cell in json.loads(path.read_text("utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        bash = source.removeprefix("%%bash\n")
        parts.append(f"```python\n{source}\n```" if bash == source else f"```console\n{bash}\n```")
        said = "".join("".join(one.get("text") or one["data"]["text/plain"]) for one in cell["outputs"]).rstrip()
        if said:
            parts.append(f"```text\n{said}\n```")
    return "\n\n".join(parts)
