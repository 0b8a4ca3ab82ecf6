"""Where a study's finished trials are kept while it runs: a JSON file, or Optuna's tables in PostgreSQL.

Either way a study that was killed reads its finished trials back and goes on. A file lies on one machine. In a database
(`LOREFUSE_TUNING_STORAGE_URL`) any machine that is asked for the same study takes over what others have finished, and
Optuna's own tools (`optuna-dashboard`, `optuna.load_study`) see it. What is sampled does not depend on the choice: the
sampler is told the records, in their order, by `tuning.study.tune`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from lorefuse.core.atomic import write_json
from lorefuse.core.errors import ConfigError, UnreachableError
from lorefuse.core.profiles import mask
from lorefuse.core.stores import is_postgres

if TYPE_CHECKING:
    import optuna

RECORD = "lorefuse_record"
"""User attribute of a stored trial: its whole record as JSON, floats exact."""
_KEYS = {"number", "params", "state", "value", "num_epochs", "curve", "duration_s"}


class Journal(Protocol):
    """Finished trials of one study, in their order."""

    def read(self) -> list[dict[str, Any]]:
        """Return the records kept so far; none where there is nothing whole."""

    def keep(self, records: Sequence[dict[str, Any]], trials: Sequence[optuna.Trial]) -> None:
        """Keep all records of the study so far, of which the last ones belong to `trials`."""


@dataclass(frozen=True)
class FileJournal:
    """A JSON file, written anew after each batch of trials."""

    path: Path

    def read(self) -> list[dict[str, Any]]:
        """Return the records kept so far; none where the file is not whole."""
        try:
            content = json.loads(self.path.read_text("utf-8"))
        except (OSError, ValueError):
            return []
        whole = isinstance(content, list) and all(isinstance(r, dict) and set(r) >= _KEYS for r in content)
        return content if whole else []

    def keep(self, records: Sequence[dict[str, Any]], trials: Sequence[optuna.Trial]) -> None:
        """Write all records."""
        write_json(self.path, list(records))


@dataclass(frozen=True)
class DatabaseJournal:
    """A study in Optuna's tables.

    Attributes:
        url: ``postgresql://user:password@host:port/database``; never printed, never in a command line.
        name: Of the study: what decides its trials, as a digest.
    """

    url: str
    name: str

    def read(self) -> list[dict[str, Any]]:
        """Return the records kept so far, up to the first that is missing.

        Raises:
            ConfigError: The URL is not PostgreSQL's.
            UnreachableError: The database does not answer.
        """
        with self._study() as study:
            stored = [json.loads(trial.user_attrs[RECORD]) for trial in study.trials if RECORD in trial.user_attrs]
        by_number = {record["number"]: record for record in reversed(stored)}  # of two writers the first counts
        records: list[dict[str, Any]] = []
        while len(records) in by_number:
            records.append(by_number[len(records)])
        return records

    def keep(self, records: Sequence[dict[str, Any]], trials: Sequence[optuna.Trial]) -> None:
        """Add those records of `trials` that are not there yet.

        Raises:
            UnreachableError: The database does not answer.
        """
        from optuna.trial import TrialState, create_trial

        with self._study() as study:
            known = {trial.user_attrs.get(RECORD) for trial in study.trials}
            for record, trial in zip(records[len(records) - len(trials) :], trials, strict=True):
                if json.dumps(record) in known:
                    continue
                # The configuration itself may lie outside of the space: Optuna shows the nearest point, the record
                # holds what was trained.
                stored = create_trial(
                    state=TrialState[record["state"]],
                    value=record["value"] if record["state"] == "COMPLETE" else None,
                    params=trial.params,
                    distributions=trial.distributions,
                    user_attrs={RECORD: json.dumps(record)},
                    intermediate_values=dict(enumerate(record["curve"], start=1)),
                )
                study.add_trial(stored)

    @contextmanager
    def _study(self) -> Iterator[optuna.Study]:
        import optuna
        from sqlalchemy.exc import SQLAlchemyError

        if not is_postgres(self.url):
            raise ConfigError(
                "The storage of studies is not a PostgreSQL URL.", expected="postgresql://…", got=mask(self.url)
            )
        try:
            storage = optuna.storages.RDBStorage(
                self.url.replace("postgresql://", "postgresql+psycopg://", 1),
                engine_kwargs={"pool_pre_ping": True, "connect_args": {"connect_timeout": 5}},
            )
            try:
                yield optuna.create_study(
                    storage=storage, study_name=self.name, direction="maximize", load_if_exists=True
                )
            finally:
                storage.engine.dispose()
        except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
            raise UnreachableError(
                "The storage of studies cannot be used.",
                expected=f"an answer from {mask(self.url)}",
                got=mask(str(getattr(error, "orig", None) or error)).strip().splitlines()[0][:300],
                fix="start PostgreSQL, create the database (createdb optuna), or correct LOREFUSE_TUNING_STORAGE_URL",
            ) from None
