"""The bulk engine in a real Redis: the keys, fields and bytes of Feast's own engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from redis.exceptions import ResponseError

from lorefuse.core.stores import redis_client
from lorefuse.feature_store.online import redis_connection_string
from tests.helpers.bulk_table import BULK, IDS, MOMENTS_US, Repository, table
from tests.helpers.store_servers import Server, redis_url


def _repositories(redis_server: Server, path: Path, **options: Any) -> tuple[Repository, Repository]:
    pair = []
    for database, engine in ((11, BULK), (12, None)):
        online = {"type": "redis", "connection_string": redis_connection_string(redis_url(redis_server.port, database))}
        pair.append(Repository(path / str(database), engine, **online, **options))
    return pair[0], pair[1]


def _content(redis_server: Server, database: int) -> dict[bytes, dict[bytes, bytes]]:
    with redis_client(redis_url(redis_server.port, database)) as client:
        return {key: client.hgetall(key) for key in client.keys("*")}


@pytest.mark.parametrize("skip_dedup", [False, True])
def test_every_field_is_feasts(redis_server: Server, tmp_path: Path, skip_dedup: bool) -> None:
    for database in (11, 12):
        with redis_client(redis_url(redis_server.port, database)) as client:
            client.flushdb()
    ours, feasts = _repositories(redis_server, tmp_path, skip_dedup=skip_dedup)
    shifts_us = (0, -5_000_000, 5_000_000)  # an older snapshot is left out, a newer one written
    for number, shift_us in enumerate(shifts_us):
        moments_us = [max(us + shift_us, number) for us in MOMENTS_US]
        rows = table(pa.array([*IDS[:4], f"only {number}"]), moments_us)
        for repository in (ours, feasts):
            repository.fill(rows)
        assert _content(redis_server, 11) == _content(redis_server, 12)
    assert len(_content(redis_server, 11)) == len(IDS) - 1 + len(shifts_us)
    pd.testing.assert_frame_equal(ours.answers(IDS), feasts.answers(IDS))


def test_a_refused_command_is_raised_and_the_next_fill_works(redis_server: Server, tmp_path: Path) -> None:
    """The refusal comes in the middle of a batch: what was not read must not answer later commands."""
    ours, _ = _repositories(redis_server, tmp_path)
    rows = table(pa.array(IDS), MOMENTS_US)
    with redis_client(redis_url(redis_server.port, 11)) as client:
        client.flushdb()
        ours.fill(rows)
        key = client.keys("*")[0]
        client.set(key, "not a hash")
        with pytest.raises(ResponseError, match="WRONGTYPE"):
            ours.fill(rows)
        client.flushdb()
    ours.fill(rows)
    assert len(_content(redis_server, 11)) == len(IDS)
