"""A store of answers addressed by content: what has been asked and paid for is never asked again."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from lorefuse.core.errors import ArtifactError

T = TypeVar("T")
_TIMEOUT_S = 60.0
_BATCH = 500


@dataclass(frozen=True)
class Answer:
    """What came back.

    Attributes:
        text: The answer, stripped; empty where there is none.
        prompt_tokens: As the endpoint counted them.
        completion_tokens: As the endpoint counted them.
        fault: Why the answer is bad, e.g. ``truncated``; empty for a good one.
    """

    text: str
    prompt_tokens: int = 0
    completion_tokens: int = 0
    fault: str = ""


class AnswerStore:
    """Good answers on disk: one SQLite file in WAL mode, each answer committed as soon as it is there.

    Args:
        path: The file; made on first use.

    Raises:
        ArtifactError: The file cannot be used. It is never thrown away by itself: answers cost money.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def get(self, addresses: list[str]) -> dict[str, Answer]:
        """Return the known answers among these addresses."""

        def select(connection: sqlite3.Connection) -> dict[str, Answer]:
            found: dict[str, Answer] = {}
            for start in range(0, len(addresses), _BATCH):
                part = addresses[start : start + _BATCH]
                rows = connection.execute(
                    "SELECT address, text, prompt_tokens, completion_tokens FROM answers "  # noqa: S608
                    f"WHERE address IN ({','.join('?' * len(part))})",
                    part,
                )
                found |= {address: Answer(*rest) for address, *rest in rows}
            return found

        return self._guarded(select)

    def put(self, address: str, answer: Answer) -> None:
        """Store one answer."""
        row = (address, answer.text, answer.prompt_tokens, answer.completion_tokens)
        self._guarded(lambda connection: connection.execute("INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?)", row))

    def _guarded(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self.path, timeout=_TIMEOUT_S)) as connection:
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute(
                    "CREATE TABLE IF NOT EXISTS answers (address TEXT PRIMARY KEY, text TEXT, "
                    "prompt_tokens INTEGER, completion_tokens INTEGER)"
                )
                with connection:
                    return work(connection)
        except (sqlite3.Error, OSError) as error:
            raise ArtifactError(
                f"The store of answers {self.path} cannot be used.",
                expected="a file that can be read and written, and room on its disk",
                got=str(error),
                fix="free space or mend its permissions; a damaged file: mend it with `sqlite3 .recover`, or move it "
                "away and pay for its answers again",
            ) from None
