"""What ingest does about people: pseudonyms in place of ids, nobody who was forgotten, nothing past its time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lorefuse.config.privacy import PrivacyConfig
from lorefuse.contract import EVENT_TIMESTAMP, USER_ID
from lorefuse.errors import DataError, UsageError
from lorefuse.privacy.forgotten import Forgotten
from lorefuse.privacy.pseudonyms import Pseudonymizer, required
from lorefuse.settings import settings

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from lorefuse.data.raw import Quarantine

FORGOTTEN = "forgotten"
EXPIRED = "older than privacy.retention_days"
_DAY_US = 86_400 * 1_000_000


@dataclass(frozen=True)
class Intake:
    """The rules of one ingest.

    Attributes:
        names: Makes pseudonyms; None: ids stay as they are.
        forgotten: Whose rows are left out.
        retention_days: Days before the newest interaction that are kept; None: all.
    """

    names: Pseudonymizer | None
    forgotten: Forgotten
    retention_days: int | None

    @classmethod
    def of(cls, config: PrivacyConfig | None) -> Intake:
        """Return the rules of a configuration in this environment and home.

        Raises:
            ConfigError: It asks for pseudonyms and there is no key for them.
            ArtifactError: The list of who was forgotten is damaged.
        """
        forgotten = Forgotten.load(settings().home_path)
        if config is None:
            return cls(None, forgotten, None)
        return cls(required() if config.pseudonyms else None, forgotten, config.retention_days)

    @property
    def address(self) -> dict[str, Any]:
        """What decides the result of an ingest, JSON-able and without secrets; empty where nothing does."""
        found = {
            "pseudonyms": self.names and self.names.fingerprint,
            "forgotten": self.forgotten.digest,
            "retention_days": self.retention_days,
        }
        return {name: value for name, value in found.items() if value}

    def quarantine(self) -> Quarantine:
        """Return an empty quarantine; it keeps no raw text, which may hold anybody's id, where that must not stay."""
        from lorefuse.data.raw import Quarantine

        return Quarantine(keeps_text=self.names is None and not self.forgotten.hashes)

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
