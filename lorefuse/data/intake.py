"""What ingest does about people: pseudonyms, scrubbed texts, nobody who was forgotten, nothing past its time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lorefuse.config import FileSource
from lorefuse.config.privacy import PrivacyConfig
from lorefuse.config.sources import AmazonSource
from lorefuse.core.errors import DataError, UsageError
from lorefuse.core.progress import track
from lorefuse.core.schema import EVENT_TIMESTAMP, ITEM_ID, ROW_TEXTS, USER_ID
from lorefuse.core.settings import settings
from lorefuse.privacy.forgotten import Forgotten
from lorefuse.privacy.pseudonyms import Pseudonymizer, required
from lorefuse.privacy.scrub import Scrubber

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from lorefuse.data.quarantine import Quarantine
    from lorefuse.data.tables import Roles

FORGOTTEN = "forgotten"
EXPIRED = "older than privacy.retention_days"
SCRUBBED = "scrubbed"
"""Report in a manifest: by column the number of texts in which something was found, and of what by kind."""
_DAY_US = 86_400 * 1_000_000


@dataclass(frozen=True)
class Intake:
    """The rules of one ingest.

    Attributes:
        names: Makes pseudonyms; None: ids stay as they are.
        forgotten: Whose rows are left out.
        retention_days: Days before the newest interaction that are kept; None: all.
        scrubber: Takes out of texts what tells who somebody is; None: texts stay as they are.
        scrubs_items: Whether it goes through the texts of items too.
    """

    names: Pseudonymizer | None
    forgotten: Forgotten
    retention_days: int | None
    scrubber: Scrubber | None = None
    scrubs_items: bool = False

    @classmethod
    def of(cls, config: PrivacyConfig | None, source: object) -> Intake:
        """Return the rules of a configuration in this environment and home.

        Args:
            config: The section; None: nothing is done but for who was forgotten.
            source: The configuration's ``data.source``: whether there are texts of users to scrub.

        Raises:
            ConfigError: It asks for pseudonyms and there is no key for them, or for texts to be scrubbed and the
                package or model for it is not installed.
            ArtifactError: The list of who was forgotten is damaged.
        """
        forgotten = Forgotten.load(settings().home_path)
        if config is None:
            return cls(None, forgotten, None)
        names = required() if config.pseudonyms else None
        scrubs_items = config.scrub_texts == "all"
        scrubs = scrubs_items or (config.scrub_texts == "users" and _has_user_texts(source))
        scrubber = Scrubber(config.scrub) if scrubs else None
        return cls(names, forgotten, config.retention_days, scrubber, scrubs_items)

    @property
    def address(self) -> dict[str, Any]:
        """What decides the result of an ingest, JSON-able and without secrets; empty where nothing does."""
        found = {
            "pseudonyms": self.names and self.names.fingerprint,
            "forgotten": self.forgotten.digest,
            "retention_days": self.retention_days,
            "scrub": self.scrubber and {"items": self.scrubs_items, **self.scrubber.address},
        }
        return {name: value for name, value in found.items() if value}

    def quarantine(self) -> Quarantine:
        """Return an empty quarantine; it keeps no raw text, which may hold anybody's id, where that must not stay."""
        from lorefuse.data.quarantine import Quarantine

        touched = self.names or self.scrubber or self.forgotten.hashes
        return Quarantine(keeps_text=not touched)

    def admit(self, frame: pd.DataFrame, quarantine: Quarantine, file: str) -> pd.DataFrame:
        """Return a raw table with the column `contract.USER_ID` as it may go on: pseudonyms, and nobody forgotten.

        Args:
            frame: Raw rows; ids as text, None where there is none.
            quarantine: Counts whom it leaves out, without a record of the rows.
            file: Name of the file.

        Raises:
            DataError: The file holds pseudonyms of another key.
        """
        if not (self.forgotten.hashes or self.names):
            return frame
        import numpy as np
        import pandas as pd

        codes, found = pd.factorize(frame[USER_ID])
        ids = [str(one) for one in found]
        known_as = self._names_of(ids, file)
        is_gone = np.array([a in self.forgotten or b in self.forgotten for a, b in zip(ids, known_as, strict=True)])
        names = np.array([*known_as, None], dtype=object)  # code -1 is no id
        gone = np.append(is_gone, False)[codes]
        quarantine.drop(file, FORGOTTEN, int(gone.sum()))
        admitted: pd.DataFrame = frame.assign(**{USER_ID: names[codes]})[~gone].reset_index(drop=True)
        return admitted

    def scrub_events(self, frame: pd.DataFrame, reports: dict[str, Any]) -> pd.DataFrame:
        """Return raw interactions with their texts as they may go on; what was found is added to the reports."""
        return self._scrubbed(frame, ROW_TEXTS, reports) if self.scrubber else frame

    def scrub_items(self, frame: pd.DataFrame, roles: Roles, reports: dict[str, Any]) -> pd.DataFrame:
        """Return raw items likewise, where the texts of items are scrubbed too."""
        return self._scrubbed(frame, [*roles.item_text, roles.item_title], reports) if self.scrubs_items else frame

    def _scrubbed(self, frame: pd.DataFrame, columns: Iterable[str], reports: dict[str, Any]) -> pd.DataFrame:
        import pandas as pd

        changed: dict[str, pd.Series] = {}
        for name in dict.fromkeys(columns):
            if name in frame.columns and name != ITEM_ID and not pd.api.types.is_numeric_dtype(frame[name]):
                counts: Counter[str] = Counter()
                # As objects: a Parquet column may be categorical, or have a type of texts.
                cells = [self._cell(cell, counts) for cell in track(frame[name].astype(object), f"Scrubbing {name}")]
                changed[name] = pd.Series(cells, index=frame.index, dtype=object)
                add_counts(reports, {name: counts})
        return frame.assign(**changed)

    def _cell(self, cell: Any, counts: Counter[str]) -> Any:
        """Return a cell of a raw table without what was found in it: a text, or a list of such."""
        import numpy as np

        if isinstance(cell, str) and self.scrubber:
            text, found = self.scrubber.scrub(cell)
            counts.update({"num_texts": 1, **found} if found else {})
            return text
        return [self._cell(one, counts) for one in cell] if isinstance(cell, list | np.ndarray) else cell

    def unexpired(self, events: pd.DataFrame, quarantine: Quarantine, file: str) -> pd.DataFrame:
        """Return the valid interactions that are young enough, as measured from the newest of them."""
        if self.retention_days is None or events.empty:
            return events
        import pandas as pd

        times = events[EVENT_TIMESTAMP]
        is_young = times >= times.max() - pd.Timedelta(days=self.retention_days)
        self.expire(int((~is_young).sum()), quarantine, file)
        kept: pd.DataFrame = events[is_young].reset_index(drop=True)
        return kept

    def since_us(self, newest_us: int) -> int:
        """Return the earliest moment that is kept, in microseconds since 1970, where the newest is known."""
        return 0 if self.retention_days is None else newest_us - self.retention_days * _DAY_US

    def expire(self, num_rows: int, quarantine: Quarantine, file: str) -> None:
        """Count interactions that were too old."""
        quarantine.drop(file, EXPIRED, num_rows)

    def said(self) -> dict[str, Any]:
        """Return the part of a manifest that says what was done about people; empty where nothing was."""
        # Not the list of who was forgotten: what holds none of them stays the same dataset when it grows.
        said = {name: value for name, value in self.address.items() if name != FORGOTTEN}
        return {"privacy": said} if said else {}

    def admit_all(self, ids: pa.Array) -> pa.Array | None:
        """Return ids without gaps as they may go on; None where somebody was forgotten, or one is of another key.

        Args:
            ids: Arrow strings, such as a batch of a large file has them.
        """
        if not (self.forgotten.hashes or self.names):
            return ids
        import pyarrow as pa

        coded = ids.dictionary_encode()
        found = coded.dictionary.to_pylist()
        try:
            known_as = self._names_of(found, "")
        except DataError:
            return None  # `admit` says it with the file's name
        if any(a in self.forgotten or b in self.forgotten for a, b in zip(found, known_as, strict=True)):
            return None
        return pa.array(known_as, pa.string()).take(coded.indices)

    def _names_of(self, ids: list[str], file: str) -> list[str]:
        if self.names is None:
            return ids
        try:
            return [self.names.of(one) for one in ids]
        except UsageError as error:
            raise DataError(
                f"{file} holds pseudonyms of another key.", expected=error.expected, got=error.got, fix=error.fix
            ) from None


def add_counts(reports: dict[str, Any], counts: Mapping[str, Mapping[str, int]]) -> None:
    """Add what was found in texts, by column, to the reports of a manifest."""
    known = reports.get(SCRUBBED, {})
    added = {name: Counter(known.get(name, {})) + Counter(found) for name, found in counts.items()}
    reports[SCRUBBED] = {**known, **{name: dict(sorted(found.items())) for name, found in added.items()}}


def _has_user_texts(source: object) -> bool:
    if isinstance(source, FileSource):
        return bool(source.review_text or source.context_text)
    return isinstance(source, AmazonSource) and source.reviews
