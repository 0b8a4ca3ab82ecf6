"""Ingest of interactions that are too many for one table in memory: Parquet in batches, sorted by DuckDB on disk.

The result is that of `ingest`, row for row. A batch whose cells are all in order, by a few Arrow kernels, goes on as it
is; any other goes through the very rules of `validate`, so that the quarantine says the same. What needs all rows at
once, their order and exact repeats, is DuckDB's: it sorts with bounded memory and spills to disk.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lorefuse.config import DataConfig, FileSource, LabelConfig
from lorefuse.core.progress import track
from lorefuse.core.schema import EVENT_TIMESTAMP, ITEM_ID, LABEL, ROW_ID, TIMESTAMP_UNIT, USER_ID, VALUE, DatasetFile
from lorefuse.data.cells import parse_numbers
from lorefuse.data.files import events_of
from lorefuse.data.ids import NO_ID
from lorefuse.data.intake import Intake
from lorefuse.data.quarantine import LINE, Quarantine
from lorefuse.data.raw import to_frame
from lorefuse.data.times import MAX_CLOCK_SKEW, parse_timestamps
from lorefuse.data.validate import DUPLICATE, EARLIEST, KEY, MAX_ID, REPEATED, interactions_schema, validate

if TYPE_CHECKING:
    import pyarrow as pa

MANY_ROWS = 3_000_000
"""Interactions from which on they are not read as one table."""
BATCH_ROWS = 1 << 19
MEMORY_LIMIT = "1GB"
"""Of DuckDB's sort; beyond it rows go to disk."""


def is_large(source: object) -> bool:
    """Return whether a source is a Parquet file of many interactions whose times need no guessing."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not isinstance(source, FileSource) or source.interactions_path.suffix not in (".parquet", ".pq"):
        return False
    if source.order or source.review_text or source.context_text:
        return False
    try:
        file = pq.ParquetFile(source.interactions_path)
        kind = file.schema_arrow.field(source.timestamp).type
    except (pa.ArrowException, OSError, KeyError):
        return False  # `ingest` says what is wrong with it
    known = pa.types.is_timestamp(kind) or (pa.types.is_integer(kind) and source.timestamp_unit != "auto")
    return known and file.metadata.num_rows >= MANY_ROWS


def write_interactions(
    config: DataConfig,
    item_ids: set[str],
    user_ids: set[str] | None,
    quarantine: Quarantine,
    name: str,
    out_path: Path,
    intake: Intake,
) -> dict[str, Any]:
    """Validate, sort and write `interactions.parquet` and, where there is no file of users, `users.parquet`.

    Args:
        config: With a `FileSource` for which `is_large` holds.
        item_ids: Ids of the items table.
        user_ids: Ids of the users table; None: every user of the interactions is one.
        quarantine: Receives the rest.
        name: What the quarantine calls the file.
        out_path: Folder to fill.
        intake: Pseudonyms, retention, and whose rows are left out.

    Returns:
        num_rows, label_mean, labels (distinct), lowest and highest value, first and last moment, and
        num_timestamps_out_of_order.
    """
    import duckdb
    import pyarrow.parquet as pq

    unsorted_path, spill_path = out_path / ".unsorted.parquet", out_path / ".spill"
    facts = _write_valid(config, item_ids, user_ids, quarantine, name, unsorted_path, intake)
    with duckdb.connect() as connection:
        connection.execute(f"SET memory_limit = '{MEMORY_LIMIT}'")
        connection.execute(f"SET temp_directory = '{spill_path}'")
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute("SET threads = 2")
        names = f"{USER_ID}, {ITEM_ID}, {EVENT_TIMESTAMP}, {VALUE}, {LINE}"
        order = f"{EVENT_TIMESTAMP}, {USER_ID}, {ITEM_ID}, {VALUE} DESC, {LINE}"
        time = f"epoch_us({EVENT_TIMESTAMP})"
        since = intake.since_us(facts.pop("newest_us"))
        expired = f"SELECT count(*) FROM read_parquet(?) WHERE {time} < ?"  # noqa: S608
        intake.expire(connection.sql(expired, params=[str(unsorted_path), since]).fetchall()[0][0], quarantine, name)
        query = f"SELECT {names} FROM read_parquet(?) WHERE {time} >= ? ORDER BY {order}"  # noqa: S608  (ours)
        rows = connection.sql(query, params=[str(unsorted_path), since]).to_arrow_reader(BATCH_ROWS)
        with pq.ParquetWriter(out_path / DatasetFile.INTERACTIONS, _schema()) as writer:
            facts |= _write_sorted(rows, config.label, quarantine, name, writer)
        if user_ids is None:
            users = f"SELECT DISTINCT {USER_ID} FROM read_parquet(?) ORDER BY 1"  # noqa: S608
            table = connection.sql(users, params=[str(out_path / DatasetFile.INTERACTIONS)]).to_arrow_table()
            table.to_pandas().to_parquet(out_path / DatasetFile.USERS, index=False)
    unsorted_path.unlink()
    return facts


def _write_valid(
    config: DataConfig,
    item_ids: set[str],
    user_ids: set[str] | None,
    quarantine: Quarantine,
    name: str,
    path: Path,
    intake: Intake,
) -> dict[str, Any]:
    """Write the rows that break no rule of single cells, in the order they came."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    source = config.source
    assert isinstance(source, FileSource)
    file = pq.ParquetFile(source.interactions_path)
    quarantine.num_rows_read[name] += file.metadata.num_rows
    schema = interactions_schema(item_ids, user_ids, pd.Timestamp.now("UTC"))
    known = {ITEM_ID: pa.array(sorted(item_ids))}
    known |= {} if user_ids is None else {USER_ID: pa.array(sorted(user_ids))}
    columns = [source.user_id, source.item_id, source.timestamp, *([source.value] if source.value else [])]
    batches = file.iter_batches(BATCH_ROWS, columns=list(dict.fromkeys(columns)))
    line, last, num_back, newest_us = 1, None, 0, 0
    total = -(-file.metadata.num_rows // BATCH_ROWS)
    with pq.ParquetWriter(path, _unsorted_schema(), compression="zstd", compression_level=1) as writer:
        for batch in track(batches, f"Reading {name}", total=total):
            lines = np.arange(line, line + batch.num_rows)
            line += batch.num_rows
            table = _at_a_glance(batch, lines, source, known, intake)
            if table is None:
                raw = events_of(to_frame(batch).assign(**{LINE: lines}), source)
                raw = intake.admit(raw, quarantine, name)
                events = raw.copy()
                events[VALUE] = parse_numbers(events[VALUE])
                events[EVENT_TIMESTAMP] = parse_timestamps(events[EVENT_TIMESTAMP], source.timestamp_unit)
                events = validate(events, schema, name, quarantine, raw=raw)
                table = pa.Table.from_pandas(events[_unsorted_schema().names], _unsorted_schema(), preserve_index=False)
            times = table[EVENT_TIMESTAMP].to_numpy().astype(np.int64)
            steps = np.diff(times, prepend=times[:1] if last is None else last)
            newest_us = max(newest_us, int(times.max(initial=0)))
            num_back, last = num_back + int((steps < 0).sum()), times[-1:] if len(times) else last
            writer.write_table(table)
    return {"num_timestamps_out_of_order": num_back, "newest_us": newest_us}


def _at_a_glance(
    batch: pa.RecordBatch, lines: NDArray[np.int64], source: FileSource, known: dict[str, pa.Array], intake: Intake
) -> pa.Table | None:
    """Return the batch's rows where every cell passes by a few kernels; None means that `validate` has to look."""
    import pyarrow as pa
    import pyarrow.compute as pc

    times, values = batch.column(source.timestamp), batch.column(source.value) if source.value else None
    kind = times.type
    unit = kind.unit if pa.types.is_timestamp(kind) else source.timestamp_unit
    if unit not in ("s", "ms", "us") or times.null_count:
        return None
    moments = times.cast(pa.timestamp(unit)).cast(pa.timestamp(TIMESTAMP_UNIT, "UTC"))
    latest = pd.Timestamp.now("UTC") + MAX_CLOCK_SKEW
    if len(batch) == 0 or pc.min(moments).as_py() < EARLIEST or pc.max(moments).as_py() > latest:
        return None
    numbers = np.ones(len(batch))
    if values is not None:
        if values.null_count or not (pa.types.is_floating(values.type) or pa.types.is_integer(values.type)):
            return None
        numbers = values.to_numpy(zero_copy_only=False).astype(np.float64)
        if not (np.abs(numbers) <= np.finfo("float32").max).all():  # NaN compares as no
            return None
    ids = {}
    for name, column in ((USER_ID, source.user_id), (ITEM_ID, source.item_id)):
        cells = batch.column(column)
        if not pa.types.is_string(cells.type) or cells.null_count:
            return None
        is_plain = pc.equal(cells, pc.utf8_trim_whitespace(cells))
        is_none = pc.is_in(pc.utf8_lower(cells), pa.array(NO_ID))
        if pc.any(is_none).as_py() or not pc.all(is_plain).as_py() or pc.max(pc.utf8_length(cells)).as_py() > MAX_ID:
            return None
        if name == USER_ID:
            cells = intake.admit_all(cells)
            if cells is None:
                return None
        if name in known and not pc.all(pc.is_in(cells, known[name])).as_py():
            return None
        ids[name] = cells
    columns = [ids[USER_ID], ids[ITEM_ID], moments, pa.array(numbers), pa.array(lines)]
    return pa.Table.from_arrays(columns, schema=_unsorted_schema())


def _write_sorted(rows: Any, kind: LabelConfig, quarantine: Quarantine, name_of: str, writer: Any) -> dict[str, Any]:
    """Number the rows in their order and write them; a repeat that lay in another batch is set aside here."""
    import pyarrow as pa
    import pyarrow.compute as pc

    keys = KEY
    num_rows, label_sum, labels, before = 0, 0.0, set[float](), None
    low, high, first, last = np.inf, -np.inf, None, None
    for batch in rows:
        if not len(batch):
            continue
        table = pa.Table.from_batches([batch])
        same = np.zeros(len(table), dtype=bool)
        for name in keys:
            column = table[name].combine_chunks()
            equal = pc.equal(column.slice(1), column.slice(0, len(column) - 1))
            same[1:] = equal.to_numpy(zero_copy_only=False) & (same[1:] if name != keys[0] else True)
        row = {name: table[name][0] for name in keys}
        same[0] = before is not None and all(row[name] == before[name] for name in keys)
        last_value = np.nan if before is None else before[VALUE].as_py()
        is_equal = np.diff(table[VALUE].to_numpy(), prepend=last_value) == 0
        before = {name: table[name][-1] for name in (*keys, VALUE)}
        if same.any():
            repeats = table.filter(pa.array(same)).to_pandas()
            reasons = pd.Series(np.where(is_equal[same], DUPLICATE, REPEATED), index=repeats.index)
            quarantine.add_rows(name_of, repeats, reasons)
            table = table.filter(pa.array(~same))
        if not len(table):
            continue
        value = pd.Series(table[VALUE].to_numpy().astype(np.float32))
        label = label_of(value, kind)
        time = table[EVENT_TIMESTAMP].cast(_schema().field(EVENT_TIMESTAMP).type)
        ids = np.arange(num_rows, num_rows + len(table), dtype=np.int64)
        columns = [pa.array(ids), table[USER_ID], table[ITEM_ID], time, pa.array(value), pa.array(label)]
        writer.write_table(pa.Table.from_arrays(columns, schema=_schema()))
        num_rows, label_sum = num_rows + len(table), label_sum + float(label.to_numpy().sum(dtype=np.float64))
        labels |= set(label.unique().tolist())
        low, high = min(low, float(value.min())), max(high, float(value.max()))
        first, last = first if first is not None else pd.Timestamp(time[0].as_py()), pd.Timestamp(time[-1].as_py())
    return {
        "num_rows": num_rows,
        "label_mean": label_sum / max(num_rows, 1),
        "labels": labels,
        "low": low,
        "high": high,
        "first": first,
        "last": last,
    }


def label_of(value: pd.Series, label: LabelConfig) -> pd.Series:
    """Return the label of each value, float32."""
    return (value >= label.threshold).astype("float32") if label.kind == "binary" else value


def _schema() -> pa.Schema:
    import pyarrow as pa

    time = pa.timestamp(TIMESTAMP_UNIT, "UTC")
    fields: list[tuple[str, Any]] = [(ROW_ID, pa.int64()), (USER_ID, pa.string()), (ITEM_ID, pa.string())]
    return pa.schema([*fields, (EVENT_TIMESTAMP, time), (VALUE, pa.float32()), (LABEL, pa.float32())])


def _unsorted_schema() -> pa.Schema:
    import pyarrow as pa

    time = pa.timestamp(TIMESTAMP_UNIT, "UTC")
    ids: list[tuple[str, Any]] = [(USER_ID, pa.string()), (ITEM_ID, pa.string())]
    return pa.schema([*ids, (EVENT_TIMESTAMP, time), (VALUE, pa.float64()), (LINE, pa.int64())])
