"""Rows of a feature view into Feast's SQLite store, many at once, byte for byte as Feast writes them; Redis beside it.

What a store holds afterwards is what its `online_write_batch` would have left: in SQLite an upsert per cell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from lorefuse.feature_store.bulk_redis import into_redis
from lorefuse.feature_store.cells import encode, entity_keys, known_kinds, texts

if TYPE_CHECKING:
    from feast import FeatureView, RepoConfig
    from feast.infra.online_stores.online_store import OnlineStore

    Writer = Callable[[pa.Table], bool]

_KEY = "__entity_key__"
_ROWS_A_BATCH = 10_000
_MAX_FEATURES = 10_000
"""SQLite takes 32,766 values a statement."""


def writer(store: OnlineStore, config: RepoConfig, view: FeatureView) -> Writer | None:
    """Return what writes tables of a view into an online store; None where Feast has to do it.

    The writer takes a table with the columns of the view and returns whether it has written it: a table with keys of
    another kind than texts and integers it leaves alone.

    Args:
        store: Feast's SQLite or Redis store itself; subclasses may do other things.
        config: Of the repository.
        view: With one join key, and features that are numbers, texts, or lists of floats or texts.
    """
    from feast.infra.online_stores.redis import RedisOnlineStore
    from feast.infra.online_stores.sqlite import SqliteOnlineStore

    plain = (
        len(view.join_keys) == 1
        and config.entity_key_serialization_version == 3
        and not config.registry.enable_online_feature_view_versioning
        and 0 < len(view.features) <= _MAX_FEATURES
        and {field.dtype.to_value_type() for field in view.features} <= known_kinds()
    )
    options = config.online_store
    if not plain:
        return None
    if type(store) is SqliteOnlineStore and not (options.vector_enabled or options.enable_openai_compatible_store):
        return lambda table: _write(table, view, lambda: _into_sqlite(store, config, view, table))
    if type(store) is RedisOnlineStore and not options.key_ttl_seconds and options.redis_type != "redis_cluster":
        return lambda table: _write(table, view, lambda: into_redis(store._get_client(options), config, view, table))
    return None


def _write(table: pa.Table, view: FeatureView, write: Callable[[], None]) -> bool:
    """Write a table; False where its keys are of a kind that Feast has to write."""
    (join_key,) = view.join_keys
    column = table[join_key]
    if column.null_count or entity_keys(join_key, pa.nulls(0, column.type)) is None:
        return False
    write()
    return True


def _into_sqlite(store: Any, config: RepoConfig, view: FeatureView, table: pa.Table) -> None:
    """One statement an entity: half the time of one a cell."""
    names = sorted(field.name for field in view.features)
    cells = ", ".join(f"(?1, {_text(name)}, ?{4 + 2 * n}, ?{5 + 2 * n}, ?2, ?3)" for n, name in enumerate(names))
    update = ", ".join(f"{name} = excluded.{name}" for name in ("value", "value_text", "event_ts", "created_ts"))
    statement = (
        f"INSERT INTO {_quote_id(f'{config.project}_{view.name}')} "  # noqa: S608 (names are quoted)
        f"(entity_key, feature_name, value, value_text, event_ts, created_ts) VALUES {cells} "
        f"ON CONFLICT(entity_key, feature_name) DO UPDATE SET {update}"
    )
    (join_key,) = view.join_keys
    # A B-tree that is filled in order is written once, and compactly.
    keys = pa.array(entity_keys(join_key, table[join_key].combine_chunks()), pa.binary())
    parts = _in_order(table.append_column(_KEY, keys), pc.sort_indices(keys))
    connection = store._get_conn(config)
    with connection:
        connection.executemany(statement, chain.from_iterable(_entities(part, view) for part in parts))


def _in_order(table: pa.Table, order: pa.Array) -> Iterator[pa.Table]:
    """Give the rows a batch at a time; vectors of all rows side by side once more would be another table."""
    whole = table.combine_chunks()
    return (whole.take(order.slice(start, _ROWS_A_BATCH)) for start in range(0, len(order), _ROWS_A_BATCH))


def _entities(table: pa.Table, view: FeatureView) -> Iterator[tuple[Any, ...]]:
    """Give (key, moment, created, value and text of the first feature, of the second …) of each row."""
    source = view.batch_source
    created = source.created_timestamp_column
    values: list[Sequence[Any]] = []
    for field in sorted(view.features, key=lambda field: field.name):
        column, kind = table[field.name].combine_chunks(), field.dtype.to_value_type()
        values += [encode(column, kind), texts(column, kind)]
    written = _seconds(table[created]) if created else repeat(None, table.num_rows)
    return zip(table[_KEY].to_pylist(), _seconds(table[source.timestamp_field]), written, *values, strict=True)


def _seconds(moments: pa.ChunkedArray) -> list[int]:
    """Return moments as Feast's adapter for sqlite3 writes them: whole seconds."""
    moments_us = moments.combine_chunks().cast(pa.timestamp("us", "UTC")).cast(pa.int64()).to_numpy()
    seconds: list[int] = (moments_us // 1_000_000).tolist()
    return seconds


def _quote_id(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
