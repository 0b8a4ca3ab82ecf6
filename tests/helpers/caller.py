"""Requests that go on while versions change, and damage that only the server can notice."""

from __future__ import annotations

import json
import threading
from pathlib import Path

from lorefuse.client import Client
from lorefuse.core.atomic import sha256_file
from lorefuse.core.errors import UnreachableError


def reseal(bundle_path: Path, name: str) -> None:
    """Write the digest of a damaged file into the manifest, so that only the server can notice."""
    manifest = json.loads((bundle_path / "bundle.json").read_text())
    manifest["sha256"][name] = sha256_file(bundle_path / name)
    (bundle_path / "bundle.json").write_text(json.dumps(manifest))


class Caller(threading.Thread):
    """Asks for recommendations until it is told to stop, and keeps what it got."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self.client = Client(url, max_retries=0)
        self.versions: list[str] = []
        self.answers: dict[str, set[tuple[str, ...]]] = {}
        self.errors: list[str] = []
        self.done = threading.Event()

    def run(self) -> None:
        while not self.done.is_set():
            try:
                answer = self.client.recommend("u3", 5)
            except UnreachableError as error:
                self.errors.append(str(error))
                continue
            self.versions.append(answer.model_version)
            ids = tuple(item.item_id for item in answer.items)
            self.answers.setdefault(answer.model_version, set()).add(ids)

    def finish(self) -> None:
        self.done.set()
        self.join(20)
