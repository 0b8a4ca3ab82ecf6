"""Ingest: raw tables → the dataset folder that everything downstream reads, with its manifest and quarantine."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from lorefuse.config import DataConfig, FileSource, LabelConfig, MovieLensSource
from lorefuse.core.atomic import sha256_file, write_json
from lorefuse.core.errors import DataError
from lorefuse.core.schema import (
    ENTITY_ID,
    EVENT_TIMESTAMP,
    HEAD,
    ITEM_ID,
    LABEL,
    RELATION,
    ROW_ID,
    ROW_TEXTS,
    TAIL,
    USER_ID,
    VALUE,
    DatasetFile,
)
from lorefuse.core.settings import settings
from lorefuse.data.categories import one_each, several
from lorefuse.data.cells import as_text, parse_numbers
from lorefuse.data.ids import written_otherwise
from lorefuse.data.intake import Intake
from lorefuse.data.large import is_large, label_of, write_interactions
from lorefuse.data.markup import has_tags
from lorefuse.data.names import shown_name
from lorefuse.data.quarantine import LINE, Quarantine
from lorefuse.data.sources import read_source
from lorefuse.data.tables import RawTables, Roles
from lorefuse.data.times import parse_timestamps
from lorefuse.data.validate import entities_schema, interactions_schema, pairs_schema, validate

_log = logging.getLogger(__name__)


def ingest(config: DataConfig, out_path: Path, intake: Intake | None = None) -> dict[str, Any]:
    """Read, validate and write a dataset.

    Args:
        config: Source, label and how many bad rows are tolerable.
        out_path: Empty folder to fill (the caller makes it appear atomically).
        intake: Pseudonyms, texts, retention, and whose rows are left out; None: as without a section `privacy`.

    Returns:
        The manifest.

    Raises:
        DataError: A file cannot be used, or too many of its rows.
        UnreachableError: A download failed.
    """
    intake = intake or Intake.of(None, config.source)
    quarantine = intake.quarantine()
    source = config.source
    large = is_large(source)
    tables = _without_interactions(source, quarantine) if large else read_source(source, quarantine)
    tables = _admitted(tables, intake, quarantine)
    for name, file in tables.files.items():
        # Files are counted as they are read, broken lines included; MovieLens-100K's tables are whole.
        if isinstance(source, MovieLensSource) and getattr(tables, name) is not None:
            quarantine.num_rows_read[file] = len(getattr(tables, name))
    items, users = valid_entities(tables, quarantine)
    frames, facts = _graph(tables, items, quarantine), {}
    frames["items"] = finish_items(items, tables.roles, tables.multi_separator)
    if large:
        known = None if users is None else set(users[USER_ID])
        name = tables.files["interactions"]
        facts = write_interactions(config, set(items[ITEM_ID]), known, quarantine, name, out_path, intake)
        tables.reports["num_timestamps_out_of_order"] = facts["num_timestamps_out_of_order"]
        if users is not None:
            frames["users"] = _finish_users(users, tables.roles)
    else:
        events = _valid_events(tables, items, users, quarantine)
        events = intake.unexpired(events, quarantine, tables.files["interactions"])
        frames["interactions"] = _finish_interactions(events, config.label)
        frames["users"] = _users_of(events) if users is None else _finish_users(users, tables.roles)
        facts = _facts(frames["interactions"])
    quarantine.refuse_if_over(config.max_bad_share, settings().home_path / "quarantine.jsonl")
    _refuse_useless(frames["items"], facts, tables, config)
    _warn_of_empty_texts(frames["items"], tables)
    _count_markup(frames["items"], tables)
    if quarantine.rows:
        _log.warning("%d rows cannot be used and are in quarantine: %s", len(quarantine.rows), quarantine.counts())
    return _write(frames, facts, tables, config, quarantine, intake, out_path)


def _without_interactions(source: object, quarantine: Quarantine) -> RawTables:
    from lorefuse.data.files import read_files

    assert isinstance(source, FileSource)
    return read_files(source, quarantine, interactions=False)


def _admitted(tables: RawTables, intake: Intake, quarantine: Quarantine) -> RawTables:
    """Return tables in which people are known as the rest of the pipeline may know them."""
    changed: dict[str, Any] = {"items": intake.scrub_items(tables.items, tables.roles, tables.reports)}
    for name in ("interactions", "users"):
        frame = getattr(tables, name)
        if frame is not None and USER_ID in frame.columns:
            changed[name] = intake.admit(frame, quarantine, tables.files[name])
    if "interactions" in changed:
        changed["interactions"] = intake.scrub_events(changed["interactions"], tables.reports)
    return dataclasses.replace(tables, **changed)


def valid_entities(tables: RawTables, quarantine: Quarantine) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """Return the items and users that can be used; the rest goes to quarantine."""
    items = tables.items.copy()
    for name in tables.roles.item_numerics:
        items[name] = parse_numbers(items[name])
    items = validate(items, entities_schema(ITEM_ID), tables.files["items"], quarantine, raw=tables.items)
    items = _without_wrong_numbers(items, tables, quarantine)
    users = tables.users
    if users is not None:
        users = validate(users, entities_schema(USER_ID), tables.files["users"], quarantine)
    return items, users


def _without_wrong_numbers(items: pd.DataFrame, tables: RawTables, quarantine: Quarantine) -> pd.DataFrame:
    """Empty the cells that are no number: they are optional, and cost their row nothing; each has its record."""
    for name in tables.roles.item_numerics:
        is_wrong = np.isinf(items[name])
        rows = tables.items[tables.items[LINE].isin(items.loc[is_wrong, LINE])]
        reason = f"{shown_name(name)} is not a finite number: the cell is left empty, the row stays"
        quarantine.add_rows(tables.files["items"], rows, pd.Series(reason, index=rows.index))
        items[name] = items[name].mask(is_wrong)
    return items


def _valid_events(
    tables: RawTables, items: pd.DataFrame, users: pd.DataFrame | None, quarantine: Quarantine
) -> pd.DataFrame:
    events = tables.interactions.copy()
    events[VALUE] = parse_numbers(events[VALUE])
    events[EVENT_TIMESTAMP] = parse_timestamps(events[EVENT_TIMESTAMP], tables.timestamp_unit)
    user_ids = None if users is None else set(users[USER_ID])
    schema = interactions_schema(set(items[ITEM_ID]), user_ids, pd.Timestamp.now("UTC"))
    events = validate(events, schema, tables.files["interactions"], quarantine, raw=tables.interactions)
    _hint_at_ids(tables, items, users, quarantine)
    # No fault, they are sorted; but a surprise to whoever thinks the file is in order.
    tables.reports["num_timestamps_out_of_order"] = int((events[EVENT_TIMESTAMP].diff() < pd.Timedelta(0)).sum())
    return events


def _hint_at_ids(tables: RawTables, items: pd.DataFrame, users: pd.DataFrame | None, quarantine: Quarantine) -> None:
    """Say where ids that are unknown look like known ones written in another way: ``3.0`` and ``3``."""
    name = tables.files["interactions"]
    for key, table in ((ITEM_ID, items), (USER_ID, users)):
        if table is None:
            continue
        known, found = set(table[key]), tables.interactions[key].dropna().unique()
        pair = written_otherwise((cell for cell in found if cell not in known), known)
        if pair:
            hint = f"ids are written otherwise in the two files, {pair[0]!r} in {name} and {pair[1]!r} in "
            quarantine.hints[name] = f"{hint}{tables.files[key.removesuffix('_id') + 's']}: write them alike"
            _log.warning("%s", quarantine.hints[name])


def _graph(tables: RawTables, items: pd.DataFrame, quarantine: Quarantine) -> dict[str, pd.DataFrame]:
    if tables.triples is None or tables.links is None:
        return {}
    triple_columns, link_columns = [HEAD, RELATION, TAIL], [ITEM_ID, ENTITY_ID]
    triples = validate(tables.triples, pairs_schema(triple_columns), tables.files["triples"], quarantine)
    known = {ITEM_ID: set(items[ITEM_ID])}
    links = validate(tables.links, pairs_schema(link_columns, known), tables.files["links"], quarantine)
    return {"triples": triples[triple_columns].astype(str), "links": links[link_columns].astype(str)}


def _facts(events: pd.DataFrame) -> dict[str, Any]:
    """Return what `large.write_interactions` returns."""
    values, times = events[VALUE], events[EVENT_TIMESTAMP]
    return {
        "num_rows": len(events),
        "label_mean": float(events[LABEL].mean()),
        "labels": set(events[LABEL].unique().tolist()),
        "low": values.min(),
        "high": values.max(),
        "first": times.min(),
        "last": times.max(),
    }


def _finish_interactions(events: pd.DataFrame, label: LabelConfig) -> pd.DataFrame:
    events = events.sort_values([EVENT_TIMESTAMP, USER_ID, ITEM_ID], ignore_index=True)
    value = events[VALUE].astype("float32")
    texts = {name: events[name].map(as_text) for name in ROW_TEXTS if name in events.columns}
    return pd.DataFrame(
        {
            ROW_ID: np.arange(len(events), dtype="int64"),
            USER_ID: events[USER_ID].astype(str),
            ITEM_ID: events[ITEM_ID].astype(str),
            EVENT_TIMESTAMP: events[EVENT_TIMESTAMP],
            VALUE: value,
            LABEL: label_of(value, label),
            **texts,
        }
    )


def finish_items(items: pd.DataFrame, roles: Roles, separator: str) -> pd.DataFrame:
    """Return valid items as a dataset has them."""
    table = pd.DataFrame({ITEM_ID: items[ITEM_ID].astype(str)})
    for name in items.columns.drop([ITEM_ID, LINE]):
        if name in roles.item_numerics:
            table[name] = items[name].astype("float32")
        elif name in roles.item_multi_categories:
            table[name] = items[name].map(lambda cell: several(cell, separator))
        else:
            table[name] = one_each(items[name]) if name in roles.item_categories else items[name].map(as_text)
    return table


def _finish_users(users: pd.DataFrame, roles: Roles) -> pd.DataFrame:
    columns = {name: one_each(users[name]) for name in roles.user_categories}
    return pd.DataFrame({USER_ID: users[USER_ID].astype(str), **columns})


def _users_of(events: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({USER_ID: np.sort(events[USER_ID].astype(str).unique())})


def _refuse_useless(items: pd.DataFrame, facts: dict[str, Any], tables: RawTables, config: DataConfig) -> None:
    label = config.label
    for name, num_rows in (("interactions", facts["num_rows"]), ("items", len(items))):
        if not num_rows:
            raise DataError(
                f"{tables.files[name]} has no usable row left.",
                expected="at least one",
                got="none",
                fix="mend the rows named in the quarantine",
            )
    only_positives = config.negatives.num_train > 0 and facts["labels"] == {1.0}
    if label.kind == "binary" and not only_positives and len(facts["labels"]) < 2:
        raise DataError(
            "Every interaction has the same label: there is nothing to learn.",
            expected=f"values on both sides of data.label.threshold = {label.threshold:g}",
            got=f"values from {facts['low']:g} to {facts['high']:g}",
            fix="set data.label.threshold between them, data.label.kind: regression, or, where there are only "
            "positives (threshold at most the lowest value), data.negatives.num_train",
        )


def _warn_of_empty_texts(items: pd.DataFrame, tables: RawTables) -> None:
    """A text that no item has is most often a wrong column; the run goes on, and its report says so."""
    texts = [name for name in tables.roles.item_text if name in items.columns]
    empty = [shown_name(name) for name in texts if not items[name].map(as_text).any()]
    if empty:
        tables.reports["empty_texts"] = empty
        _log.warning(
            "%s: no item has a text in %s; check data.source.item_text and the file.",
            tables.files["items"],
            " or ".join(repr(name) for name in empty),
        )


def _count_markup(items: pd.DataFrame, tables: RawTables) -> None:
    """Say how many texts hold tags of HTML: the dataset keeps them, whoever embeds leaves them out."""
    columns = [name for name in tables.roles.item_text if name in items.columns]
    num_texts = sum(int(items[name].map(lambda cell: has_tags(as_text(cell))).sum()) for name in columns)
    if num_texts:
        tables.reports["num_texts_with_tags"] = num_texts
        _log.warning("%s: %d texts hold HTML; its tags are not embedded.", tables.files["items"], num_texts)


def _write(
    frames: dict[str, pd.DataFrame],
    facts: dict[str, Any],
    tables: RawTables,
    config: DataConfig,
    quarantine: Quarantine,
    intake: Intake,
    out_path: Path,
) -> dict[str, Any]:
    for name, frame in frames.items():
        frame.to_parquet(out_path / f"{name}.parquet", index=False)
    quarantine.write(out_path / DatasetFile.QUARANTINE)
    names = [Path(file).stem for file in DatasetFile if (out_path / file).is_file() and file.endswith(".parquet")]
    written = {name: pq.ParquetFile(out_path / f"{name}.parquet") for name in names}
    dtypes = {name: file.schema_arrow.empty_table().to_pandas().dtypes for name, file in written.items()}
    files = sorted(p for p in out_path.iterdir() if p.is_file())
    manifest = {
        "source": tables.source,
        "roles": dataclasses.asdict(tables.roles),
        "label": config.label.model_dump(),
        "counts": {name: file.metadata.num_rows for name, file in written.items()},
        "label_mean": round(facts["label_mean"], 6),
        "cutoffs": {name: facts[name].isoformat() for name in ("first", "last")},
        "quarantined": quarantine.counts(),
        "schema": {name: {k: str(t) for k, t in types.items()} for name, types in dtypes.items()},
        "reports": tables.reports,
        **intake.said(),
        "sha256": {file.name: sha256_file(file) for file in files},
    }
    write_json(out_path / DatasetFile.MANIFEST, manifest)
    return manifest
