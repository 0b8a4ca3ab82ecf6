"""Rows of a feature view into Feast's SQLite or Redis store, many at once, byte for byte as Feast writes them.

What a store holds afterwards is what its `online_write_batch` would have left: in SQLite an upsert per cell, in Redis a
hash per entity, written where the moment that is stored for the view is older.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa

from lorefuse.features.cells import encode, entity_keys, known_kinds, texts

if TYPE_CHECKING:
    from feast import FeatureView, RepoConfig
    from feast.infra.online_stores.online_store import OnlineStore
    from numpy.typing import NDArray

    Writer = Callable[[pa.Table], bool]

_ROWS_PER_PIPELINE = 2000
_MAX_FEATURES = 10_000
"""SQLite takes 32,766 values a statement."""


class _Rows(NamedTuple):
    """Rows in the order of their keys; a list a feature, features in the order of their names."""

    keys: list[bytes]
    values: dict[str, list[bytes]]
    texts: dict[str, list[str | None]]
    moments_us: NDArray[np.int64]
    created: list[int] | list[None]


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
        return lambda table: _write(table, view, lambda rows: _into_sqlite(store, config, view, rows), with_texts=True)
    if type(store) is RedisOnlineStore and not options.key_ttl_seconds:
        return lambda table: _write(table, view, lambda rows: _into_redis(store, config, view, rows), with_texts=False)
    return None


def _write(table: pa.Table, view: FeatureView, put: Callable[[_Rows], None], *, with_texts: bool) -> bool:
    """Encode a table and hand it on; False where its keys are of a kind that Feast has to write."""
    (join_key,) = view.join_keys
    keys = entity_keys(join_key, table[join_key].combine_chunks())
    if keys is None:
        return False
    # A B-tree that is filled in order is written once, and compactly.
    order = np.array(sorted(range(len(keys)), key=keys.__getitem__), np.int64)
    ordered = table.take(pa.array(order))
    kinds = {field.name: field.dtype.to_value_type() for field in sorted(view.features, key=lambda field: field.name)}
    columns = {name: ordered[name].combine_chunks() for name in kinds}
    source = view.batch_source
    created = source.created_timestamp_column
    put(
        _Rows(
            [keys[row] for row in order],
            {name: encode(columns[name], kind) for name, kind in kinds.items()},
            {name: texts(columns[name], kind) for name, kind in kinds.items()} if with_texts else {},
            _microseconds(ordered[source.timestamp_field]),
            _seconds(_microseconds(ordered[created])) if created else [None] * len(keys),
        )
    )
    return True


def _microseconds(column: pa.ChunkedArray) -> NDArray[np.int64]:
    values: NDArray[np.int64] = column.combine_chunks().cast(pa.timestamp("us", "UTC")).cast(pa.int64()).to_numpy()
    return values


def _seconds(moments_us: NDArray[np.int64]) -> list[int]:
    """Return moments as Feast's adapter for sqlite3 writes them: whole seconds."""
    seconds: list[int] = (moments_us // 1_000_000).tolist()
    return seconds


def _into_sqlite(store: Any, config: RepoConfig, view: FeatureView, rows: _Rows) -> None:
    """One statement an entity: half the time of one a cell."""
    table = _quote_id(f"{config.project}_{view.name}")
    names = list(rows.values)
    cells = ", ".join(f"(?1, {_text(name)}, ?{4 + 2 * n}, ?{5 + 2 * n}, ?2, ?3)" for n, name in enumerate(names))
    update = ", ".join(f"{name} = excluded.{name}" for name in ("value", "value_text", "event_ts", "created_ts"))
    statement = (
        f"INSERT INTO {table} (entity_key, feature_name, value, value_text, event_ts, created_ts) VALUES {cells} "  # noqa: S608 (names are quoted)
        f"ON CONFLICT(entity_key, feature_name) DO UPDATE SET {update}"
    )
    values = chain.from_iterable((rows.values[name], rows.texts[name]) for name in names)
    connection = store._get_conn(config)
    with connection:
        entities = zip(rows.keys, _seconds(rows.moments_us), rows.created, *values, strict=True)
        connection.executemany(statement, entities)


def _quote_id(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _into_redis(store: Any, config: RepoConfig, view: FeatureView, rows: _Rows) -> None:
    from feast.infra.online_stores.helpers import _mmh3
    from google.protobuf.timestamp_pb2 import Timestamp  # type: ignore[import-untyped]

    client = store._get_client(config.online_store)
    moment_field = f"_ts:{view.name}".encode()
    fields = [_mmh3(f"{view.name}:{name}") for name in rows.values]
    keys = [key + config.project.encode() for key in rows.keys]
    moments = _timestamps(rows.moments_us)
    cells = list(zip(*rows.values.values(), strict=True))
    for start in range(0, len(keys), _ROWS_PER_PIPELINE):
        chosen = list(range(start, min(start + _ROWS_PER_PIPELINE, len(keys))))
        if not config.online_store.skip_dedup:
            with client.pipeline(transaction=False) as reads:
                for row in chosen:
                    reads.execute_command("HGET", keys[row], moment_field)
                stored = reads.execute()
            known = [0 if data is None else Timestamp.FromString(data).ToMicroseconds() for data in stored]
            chosen = [row for row, us in zip(chosen, known, strict=True) if not us or rows.moments_us[row] > us]
        with client.pipeline(transaction=False) as writes:
            for row in chosen:
                pairs = chain.from_iterable(zip(fields, cells[row], strict=True))
                writes.execute_command("HSET", keys[row], moment_field, moments[row], *pairs)
            writes.execute()


def _timestamps(moments_us: NDArray[np.int64]) -> list[bytes]:
    from google.protobuf.timestamp_pb2 import Timestamp

    distinct, place = np.unique(moments_us, return_inverse=True)
    written = []
    for us in distinct:
        stamp = Timestamp()
        stamp.FromMicroseconds(int(us))
        written.append(stamp.SerializeToString())
    return [written[at] for at in place]
