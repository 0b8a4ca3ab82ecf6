"""Draw images/*.mmd as SVG files, which a page shows without a script from another server.

::

    npm pack mermaid && tar xzf mermaid-*.tgz
    python docs/drawings.py package/dist/mermaid.min.js

Needs playwright and a Chromium (`CHROMIUM`, default /usr/bin/chromium). A drawing names the sha256 of its source, and a
test compares the two.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
from pathlib import Path

IMAGES_PATH = Path(__file__).resolve().parent / "images"
CONFIG = {
    "startOnLoad": False,
    "theme": "base",
    "htmlLabels": False,
    "flowchart": {"htmlLabels": False, "useMaxWidth": False},
    "fontFamily": "Helvetica, Arial, sans-serif",
    "themeVariables": {
        "primaryColor": "#dbeafe",
        "primaryBorderColor": "#6b7280",
        "primaryTextColor": "#111827",
        "lineColor": "#374151",
        "clusterBkg": "#f3f4f6",
        "clusterBorder": "#9ca3af",
        "edgeLabelBackground": "#fbfbfd",
    },
}
MARGIN = 16


def source_digest(path: Path) -> str:
    """Return what a drawing must name: the sha256 of its source."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def draw(mermaid_path: Path) -> None:
    """Draw every source with this copy of mermaid."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=os.environ.get("CHROMIUM", "/usr/bin/chromium"))
        page = browser.new_page()
        page.add_script_tag(path=str(mermaid_path))
        page.evaluate("config => mermaid.initialize(config)", CONFIG)
        for path in sorted(IMAGES_PATH.glob("*.mmd")):
            render = "async ([name, text]) => (await mermaid.render(name, text)).svg"
            svg = page.evaluate(render, [f"drawing-{path.stem}", path.read_text("utf-8")])
            path.with_suffix(".svg").write_text(_on_paper(svg, source_digest(path)), "utf-8")
        browser.close()


def _on_paper(svg: str, digest: str) -> str:
    """Put a light sheet behind the drawing, so that it reads on a dark page too, and name its source."""
    found = re.search(r'viewBox="([-\d.]+) ([-\d.]+) ([-\d.]+) ([-\d.]+)"', svg)
    if found is None:
        raise ValueError("mermaid drew nothing with a viewBox")
    left, top, width, height = (float(one) for one in found.groups())
    left, top, width, height = left - MARGIN, top - MARGIN, width + 2 * MARGIN, height + 2 * MARGIN
    head, body = svg.split(">", 1)
    box = f'viewBox="{left:g} {top:g} {width:g} {height:g}"'
    head = re.sub(r'viewBox="[^"]+"', box, head)
    head = re.sub(r' (?:width|height)="[^"]*"', "", head) + f' width="{width:g}" height="{height:g}"'
    sheet = f'<rect x="{left:g}" y="{top:g}" width="{width:g}" height="{height:g}" rx="12" fill="#fbfbfd"/>'
    return f"{head}><!-- source sha256 {digest} -->{sheet}{body}\n"


if __name__ == "__main__":
    draw(Path(sys.argv[1]))
