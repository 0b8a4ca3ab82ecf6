"""What an erasure has done so far, written down as it goes: a killed one is taken up where it was."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Note:
    """Lines of JSON in ``<home>/privacy/open/<person>.jsonl``; they hold no name.

    Attributes:
        path: The file; gone once the receipt is written.
        entries: What it holds.
    """

    path: Path
    entries: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def open(cls, home_path: Path, person: str) -> Note:
        """Go on with the note of a person, or begin one.

        Args:
            home_path: The home.
            person: Salted hash of the person's id.
        """
        path = home_path / "privacy" / "open" / f"{person[:32]}.jsonl"
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lines = path.read_text("utf-8").splitlines() if path.is_file() else []
        entries = []
        for line in lines:
            try:
                entries.append(json.loads(line))
            except ValueError:  # the line at which it was killed
                continue
        return cls(path, entries)

    def add(self, kind: str, **facts: Any) -> None:
        """Write one line, so that it outlives this process."""
        entry = {"kind": kind, **facts}
        if entry in self.entries:
            return
        self.entries.append(entry)
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(f"\n{json.dumps(entry, sort_keys=True)}\n")  # a line that was cut short must not take this one
            stream.flush()
            os.fsync(stream.fileno())

    def of(self, kind: str) -> list[dict[str, Any]]:
        """Return the entries of a kind, without it."""
        return [{k: v for k, v in entry.items() if k != "kind"} for entry in self.entries if entry["kind"] == kind]

    def close(self) -> None:
        """Remove the file."""
        self.path.unlink(missing_ok=True)
