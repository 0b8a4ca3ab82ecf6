"""The people who were forgotten: salted hashes of their ids, by which ingest leaves their rows out for good.

``<home>/privacy/forgotten.jsonl`` begins with the salt; each further line is one hash. The file says of an id that it
was forgotten, and names nobody. Ids that can be guessed (phone numbers) can be tried out by whoever reads it: it is
its owner's alone, like the home.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lorefuse.core.atomic import atomic_file
from lorefuse.core.errors import ArtifactError

FORGOTTEN_FILE = "forgotten.jsonl"


@dataclass(frozen=True)
class Forgotten:
    """Hashes of forgotten ids.

    Attributes:
        salt: Hex; empty where nobody was forgotten.
        hashes: One for each id that a person was known by.
    """

    salt: str = ""
    hashes: frozenset[str] = frozenset()

    def __contains__(self, user_id: str) -> bool:
        return bool(self.hashes) and self.hash_of(user_id) in self.hashes

    def hash_of(self, user_id: str) -> str:
        """Return the salted hash of an id."""
        return hashlib.sha256(f"{self.salt}\0{user_id}".encode("utf-8", "surrogatepass")).hexdigest()

    @property
    def digest(self) -> str:
        """One sha256 over all of it; empty where nobody was forgotten."""
        text = "\n".join([self.salt, *sorted(self.hashes)])
        return hashlib.sha256(text.encode()).hexdigest() if self.hashes else ""

    @classmethod
    def load(cls, home_path: Path) -> Forgotten:
        """Read the home's list.

        Raises:
            ArtifactError: It is damaged: a run would bring people back.
        """
        path = _path(home_path)
        try:
            lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
            return cls(str(lines[0]["salt"]), frozenset(str(line["sha256"]) for line in lines[1:]))
        except FileNotFoundError:
            return cls()
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise ArtifactError(
                f"{path} cannot be read: a run could bring back people who were forgotten.",
                expected="a line with the salt, then one hash a line",
                got=repr(error),
                fix="restore it from a backup, or from the receipts beside it forget those people again",
            ) from None

    def with_ids(self, user_ids: Iterable[str]) -> Forgotten:
        """Return the list with the ids of one more person."""
        salted = Forgotten(self.salt or secrets.token_hex(16), self.hashes)
        return Forgotten(salted.salt, salted.hashes | {salted.hash_of(one) for one in user_ids})

    def save(self, home_path: Path) -> None:
        """Write the home's list, whole or not at all."""
        path = _path(home_path)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lines = [{"salt": self.salt}, *({"sha256": one} for one in sorted(self.hashes))]
        with atomic_file(path) as draft_path:
            draft_path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")


def _path(home_path: Path) -> Path:
    return home_path / "privacy" / FORGOTTEN_FILE
