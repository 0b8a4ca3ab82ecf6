"""Reads Feast's online store without Feast, whose import takes seconds and hundreds of megabytes.

SQLite here, Redis in redis_store.py. SQLite holds one table per view, ``<project>_<view>``, with a row per entity and
feature: ``entity_key`` (Feast's key, serialization version 3), ``feature_name`` and ``value`` (a serialized
``feast.types.Value``). Tests hold every answer of both to the SDK's.
"""

import threading
from pathlib import Path

import apsw
from stored_values import FLOAT, FLOAT_TAG, OnlineStoreError, entity_keys, parse_value

# Nobody writes to a deployed store: no locks on the file, no looking for a journal. A connection stays in its thread,
# so SQLite's mutexes, which it would take for every row and column, are left out; the standard library keeps them.
PLACE = "file:{path}?mode=ro&immutable=1"
FLAGS = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI | apsw.SQLITE_OPEN_NOMUTEX


def open_store(path: str, project: str, views: dict[str, list[str]]):
    """Open what was deployed: a SQLite file or, where `path` is a ``store.json``, Redis at its usual address.

    Raises:
        OnlineStoreError: The file is missing or no store, or nobody said where Redis is.
    """
    if path.endswith(".json"):
        from redis_store import RedisStore  # a deployment on files needs no Redis client

        return RedisStore(project, views)
    return OnlineStore(path, project, views)


class OnlineStore:
    """An online store in SQLite, opened read-only.

    Args:
        path: The SQLite file.
        project: Feast project.
        views: View → names of its features.
    """

    def __init__(self, path: str, project: str, views: dict[str, list[str]]) -> None:
        if not Path(path).is_file():
            raise OnlineStoreError(f"the online store {path} is missing")
        self.path = path
        self.tables = [f"{project}_{view}" for view in views]
        self.wanted = [frozenset(names) for names in views.values()]
        self._query_of_one = self._query(1)
        self._of_thread = threading.local()
        try:
            rows = self._connection().execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            found = {name for (name,) in rows}
        except apsw.Error as error:
            raise OnlineStoreError(f"{path} is not an online store: {error}") from None
        missing = sorted(set(self.tables) - found)
        if missing:
            raise OnlineStoreError(f"the online store {path} lacks the tables {', '.join(missing)}")

    def close(self) -> None:
        """Close this thread's connection; those of others close with their threads."""
        self._connection().close()
        del self._of_thread.connection

    def read(self, key: str, entity_ids: list[str]) -> list[dict[str, object]]:
        """Return the features of some entities; a feature that the store does not have is absent.

        Args:
            key: Join key, e.g. ``user_id``.
            entity_ids: Raw ids.

        Returns:
            One dict per id: feature → str, float, list of str or float32 array.
        """
        keys = entity_keys(key, entity_ids)
        found: dict[bytes, dict[str, object]] = {entity: {} for entity in keys}
        try:
            self._read(found)
        except apsw.Error as error:
            raise OnlineStoreError(f"the online store could not be read: {error}") from None
        except TypeError:
            raise OnlineStoreError("a value is damaged: it is NULL, a text or a number") from None
        return [found[entity] for entity in keys]

    def _read(self, found: dict[bytes, dict[str, object]]) -> None:
        """Put the features of all views into `found`, under their entities' keys."""
        wanted, unpack, last = self.wanted, FLOAT.unpack, None
        features: dict[str, object] = {}
        query = self._query_of_one if len(found) == 1 else self._query(len(found))
        for view, entity, name, value in self._connection().execute(query, tuple(found)):
            if entity != last:  # an entity's rows come one after the other
                last, features = entity, found[entity]
            if name not in wanted[view]:
                continue
            if len(value) == 5 and value[0] == FLOAT_TAG:  # most are floats, and a call takes longer than this
                features[name] = unpack(value)[1]
            elif (parsed := parse_value(value)) is not None:
                features[name] = parsed

    def _query(self, num_entities: int) -> str:
        """Return one statement for all views: a statement each takes a third more for a lone entity."""
        marks = ", ".join(f"?{number + 1}" for number in range(num_entities))
        return " UNION ALL ".join(
            f'SELECT {number}, entity_key, feature_name, value FROM "{table}" WHERE entity_key IN ({marks})'  # noqa: S608 (names are the export's own)
            for number, table in enumerate(self.tables)
        )

    def _connection(self) -> apsw.Connection:
        """Return this thread's connection."""
        try:
            return self._of_thread.connection
        except AttributeError:
            self._of_thread.connection = apsw.Connection(PLACE.format(path=self.path), flags=FLAGS)
            return self._of_thread.connection
