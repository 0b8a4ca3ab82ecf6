"""New rows joined to a dataset: only they are read and validated; the result is what one whole ingest would give."""

from __future__ import annotations

import dataclasses
import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lorefuse.config import DataConfig, FileSource, LabelConfig, NegativesConfig
from lorefuse.core.atomic import sha256_file, write_json
from lorefuse.core.errors import DataError
from lorefuse.core.schema import (
    CONTEXT_TEXT,
    EVENT_TIMESTAMP,
    ITEM_ID,
    LABEL,
    REVIEW_TEXT,
    ROW_ID,
    ROW_TEXTS,
    USER_ID,
    VALUE,
    DatasetFile,
)
from lorefuse.core.settings import settings
from lorefuse.data.cells import refuse_structures
from lorefuse.data.dataset import Dataset
from lorefuse.data.files import names_of, written_as
from lorefuse.data.ids import as_ids
from lorefuse.data.ingest import finish_items, ingest, valid_entities
from lorefuse.data.intake import SCRUBBED, Intake, add_counts
from lorefuse.data.names import shown_name
from lorefuse.data.quarantine import LINE, Quarantine
from lorefuse.data.raw import read_table, require_columns
from lorefuse.data.tables import RawTables
from lorefuse.data.validate import KEY
from lorefuse.privacy.pseudonyms import KEY_VARIABLE


def append(
    base: Dataset,
    config: DataConfig,
    new_path: Path,
    new_items_path: Path | None,
    out_path: Path,
    intake: Intake | None = None,
) -> dict[str, Any]:
    """Validate new files against a dataset and write the dataset that holds both.

    Interactions that the dataset holds already are counted and left out. Items of a known id replace the old row;
    users that are new come in without attributes. Items, users and the graph keep their order, so what is known by
    row number stays so. Bad rows go to quarantine as in `ingest`, beside those of the base.

    Args:
        base: The dataset so far.
        config: Its configuration: how the new file's columns are named (columns user_id, item_id, timestamp and
            rating where the source is not `files`), the label, how many bad rows are tolerable.
        new_path: CSV or Parquet with interactions.
        new_items_path: CSV or Parquet with new or changed items; None: there are none.
        out_path: Empty folder to fill.
        intake: Pseudonyms, texts, retention, and whose rows are left out; None: as without a section `privacy`.

    Returns:
        num_rows (in the new file, those in quarantine left out), num_new, num_duplicates, num_late (older than the
        base's last), num_new_items, num_changed_items, num_new_users, num_quarantined.

    Raises:
        DataError: A file cannot be used, or too many of its rows; or the base knows users by other pseudonyms, or
            its texts were scrubbed otherwise.
    """
    intake = intake or Intake.of(None, config.source)
    _refuse_other_names(base, intake)
    _refuse_other_texts(base, intake)
    reports: dict[str, Any] = {SCRUBBED: dict(base.manifest["reports"].get(SCRUBBED, {}))}
    with tempfile.TemporaryDirectory() as folder:
        mapping = _mapping(config, new_path)
        quarantine = intake.quarantine()
        items = None
        if new_items_path is not None:
            items = _new_items(base, config, mapping, new_items_path, quarantine, intake, reports)
        source = _source(base, mapping, new_path, items, Path(folder))
        # The label is judged where both are together: a small file may hold likes alone.
        every = DataConfig(
            source=source,
            label=LabelConfig(kind="regression"),
            negatives=NegativesConfig(),
            max_bad_share=config.max_bad_share,
        )
        (Path(folder) / "dataset").mkdir()
        ingest(every, Path(folder) / "dataset", dataclasses.replace(intake, retention_days=None))
        new = Dataset.open(Path(folder) / "dataset")
        frames, facts = _joined(base, new, config.label, intake)
        of_items = Path(folder) / "of_items.jsonl"
        quarantine.write(of_items)
        records = (base.path / DatasetFile.QUARANTINE, of_items, new.path / DatasetFile.QUARANTINE)
        (out_path / DatasetFile.QUARANTINE).write_bytes(b"".join(path.read_bytes() for path in records))
        set_aside = Counter(quarantine.counts()) + Counter(new.manifest["quarantined"])
        facts["num_quarantined"] = set_aside.total()
        add_counts(reports, new.manifest["reports"].get(SCRUBBED, {}))
        reports = {name: found for name, found in reports.items() if found}
        _write(base, set_aside, frames, {**reports, "appended": facts}, config.label, intake, new_path, out_path)
    return facts


def _refuse_other_names(base: Dataset, intake: Intake) -> None:
    """One person must not be two: the base's users and the new ones are known in the same way."""
    known, ours = base.manifest.get("privacy", {}).get("pseudonyms"), intake.address.get("pseudonyms")
    if known != ours:
        raise DataError(
            "The new rows would know their users by other names than the dataset does.",
            expected=f"pseudonyms of the key {known}" if known else "ids as they are (no privacy.pseudonyms)",
            got=f"pseudonyms of the key {ours}" if ours else "ids as they are",
            fix=f"set {KEY_VARIABLE} and the section `privacy` as they were, or train on all files: lorefuse run",
        )


def _refuse_other_texts(base: Dataset, intake: Intake) -> None:
    """What the manifest says of its texts is true of all of them, those of the base and the new ones."""
    known, ours = base.manifest.get("privacy", {}).get("scrub"), intake.address.get("scrub")
    # Releases may differ: the rules of a newer one are taken as better, not as different.
    before, now = ({name: value for name, value in (one or {}).items() if name != "releases"} for one in (known, ours))
    if before != now:
        changed = sorted(name for name in {**before, **now} if before.get(name) != now.get(name))
        raise DataError(
            "The texts of the new rows would be scrubbed otherwise than those of the dataset.",
            expected="privacy.scrub_texts and privacy.scrub as they were",
            got="another " + ", ".join(changed) if known and ours else f"scrubbed {'before' if known else 'now'} alone",
            fix="set them as they were, or train on all files: lorefuse run",
        )


def fresh_rows(merged: Dataset, base: Dataset) -> np.ndarray:
    """Return which rows of a dataset its base does not hold, bool (R,)."""
    rows, known = merged.interactions()[KEY], base.interactions()[KEY]
    return ~pd.MultiIndex.from_frame(rows).isin(pd.MultiIndex.from_frame(known))


def source_of(dataset: Dataset) -> FileSource:
    """Return a source whose files are a dataset folder's own: what trains on all of it with an ordinary run."""
    roles = dataset.roles
    path = dataset.path.resolve()
    has_graph = (path / DatasetFile.TRIPLES).exists() and (path / DatasetFile.LINKS).exists()
    return FileSource(
        interactions_path=path / DatasetFile.INTERACTIONS,
        items_path=path / DatasetFile.ITEMS,
        users_path=path / DatasetFile.USERS if roles.user_categories else None,
        triples_path=path / DatasetFile.TRIPLES if has_graph else None,
        links_path=path / DatasetFile.LINKS if has_graph else None,
        timestamp=EVENT_TIMESTAMP,
        value=VALUE,
        review_text=REVIEW_TEXT if dataset.row_texts(REVIEW_TEXT) is not None else None,
        context_text=CONTEXT_TEXT if dataset.row_texts(CONTEXT_TEXT) is not None else None,
        item_text=roles.item_text,
        item_title=roles.item_title,
        item_categories=roles.item_categories,
        item_multi_categories=roles.item_multi_categories,
        item_numerics=roles.item_numerics,
        user_categories=roles.user_categories,
    )


def _mapping(config: DataConfig, new_path: Path) -> FileSource:
    """Return how the new files name their columns: as those of the configuration, or as the contract does."""
    given = config.source
    return given if isinstance(given, FileSource) else FileSource(interactions_path=new_path, items_path=new_path)


def _new_items(
    base: Dataset,
    config: DataConfig,
    mapping: FileSource,
    path: Path,
    quarantine: Quarantine,
    intake: Intake,
    reports: dict[str, Any],
) -> pd.DataFrame:
    """Return the usable items of a file as a dataset has them, by the rules of `ingest`."""
    raw = read_table(path, quarantine, mapping.delimiter, **written_as(mapping))
    given_as = _names_in_file(base.items(), mapping)
    require_columns(raw, [mapping.item_id, *given_as.values()], path)
    for column in given_as.values():
        refuse_structures(raw[column], path)
    columns = {name: raw[column] for name, column in given_as.items()}
    items = pd.DataFrame({ITEM_ID: as_ids(raw[mapping.item_id], path), **columns, LINE: raw[LINE]})
    items = intake.scrub_items(items, base.roles, reports)
    tables = RawTables(pd.DataFrame(), items, None, None, None, base.roles, {"items": path.name}, {})
    valid, _ = valid_entities(tables, quarantine)
    quarantine.refuse_if_over(config.max_bad_share, settings().home_path / "quarantine.jsonl")
    return finish_items(valid, base.roles, mapping.multi_separator)


def _source(
    base: Dataset, mapping: FileSource, new_path: Path, new_items: pd.DataFrame | None, folder_path: Path
) -> FileSource:
    """Return a source of the new interactions with all items, known and new, in one file."""
    roles, items = base.roles, base.items()
    if new_items is not None:
        items = pd.concat([items[~items[ITEM_ID].isin(new_items[ITEM_ID])], new_items[items.columns]])
    path = folder_path / "items.parquet"
    items.rename(columns={ITEM_ID: mapping.item_id}).to_parquet(path, index=False)
    return mapping.model_copy(
        update={
            "interactions_path": new_path,
            "items_path": path,
            "users_path": None,
            "triples_path": None,
            "links_path": None,
            "item_text": tuple(mapping.item_id if name == ITEM_ID else name for name in roles.item_text),
            "item_title": mapping.item_id if roles.item_title == ITEM_ID else roles.item_title,
            "item_categories": roles.item_categories,
            "item_multi_categories": roles.item_multi_categories,
            "item_numerics": roles.item_numerics,
            "user_categories": (),
        }
    )


def _names_in_file(items: pd.DataFrame, mapping: FileSource) -> dict[str, str]:
    """Return what a file of items calls the dataset's columns, the id left out."""
    mapped = {inner: column for column, inner in names_of(mapping)[0].items()}
    return {name: mapped.get(name, shown_name(name)) for name in items.columns if name != ITEM_ID}


def _joined(
    base: Dataset, new: Dataset, label: LabelConfig, intake: Intake
) -> tuple[dict[str, pd.DataFrame], dict[str, int]]:
    known, added = _with_texts(base, base), _with_texts(new, base)
    is_known = pd.MultiIndex.from_frame(added[KEY]).isin(pd.MultiIndex.from_frame(known[KEY]))
    fresh = added[~is_known]
    events = pd.concat([known, fresh]).sort_values([EVENT_TIMESTAMP, USER_ID, ITEM_ID], ignore_index=True)
    num_rows = len(events)
    events = intake.unexpired(events, Quarantine(), "")
    events[ROW_ID] = np.arange(len(events), dtype="int64")
    if label.kind == "binary":
        events[LABEL] = (events[VALUE] >= label.threshold).astype("float32")
    items, num_changed = _updated_items(base.items(), new.items())
    users = base.users()
    names = np.sort(fresh.loc[~fresh[USER_ID].isin(users[USER_ID]), USER_ID].unique())
    nothing = dict.fromkeys(base.roles.user_categories, "")
    users = pd.concat([users, pd.DataFrame({USER_ID: names}).assign(**nothing)], ignore_index=True)
    frames = {"interactions": events, "items": items, "users": users[base.users().columns]}
    return frames, {
        "num_rows": len(added),
        "num_new": len(fresh),
        "num_duplicates": int(is_known.sum()),
        "num_late": int((fresh[EVENT_TIMESTAMP] < known[EVENT_TIMESTAMP].max()).sum()),
        "num_new_items": len(items) - len(base.items()),
        "num_changed_items": num_changed,
        "num_new_users": len(names),
        **({"num_expired": num_rows - len(events)} if intake.retention_days else {}),
    }


def _with_texts(dataset: Dataset, base: Dataset) -> pd.DataFrame:
    """Return interactions with the texts that the base's have, empty where a dataset brings none."""
    events = dataset.interactions()
    for name in ROW_TEXTS:
        if base.row_texts(name) is not None:
            events[name] = dataset.row_texts(name) or [""] * len(events)
    return events


def _updated_items(base: pd.DataFrame, new: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """Return the base's items in their order with what is new about them, then the new ones; and how many changed."""
    if list(base.columns) != list(new.columns):
        raise DataError(
            "The new items have other columns.", expected=str(list(base.columns)), got=str(list(new.columns))
        )
    latest = new.set_index(ITEM_ID)
    kept = base[ITEM_ID].isin(latest.index)
    updated = base.copy()
    for name in latest.columns:
        column = updated[name].astype(object)
        column[kept] = latest[name].reindex(base[ITEM_ID][kept]).to_numpy()
        updated[name] = column.astype(base[name].dtype)
    changed = [
        json.dumps(before, default=list) != json.dumps(after, default=list)
        for before, after in zip(base.to_dict("records"), updated.to_dict("records"), strict=True)
    ]
    added = new[~new[ITEM_ID].isin(base[ITEM_ID])]
    return pd.concat([updated, added], ignore_index=True), sum(changed)


def _write(
    base: Dataset,
    set_aside: Mapping[str, int],
    frames: dict[str, pd.DataFrame],
    found: dict[str, Any],
    label: LabelConfig,
    intake: Intake,
    new_path: Path,
    out_path: Path,
) -> None:
    for name, frame in frames.items():
        frame.to_parquet(out_path / f"{name}.parquet", index=False)
    for name in (DatasetFile.TRIPLES, DatasetFile.LINKS):
        if (base.path / name).exists():
            shutil.copyfile(base.path / name, out_path / name)
    events = frames["interactions"]
    files = sorted(p for p in out_path.iterdir() if p.is_file())
    quarantined, reports = dict(base.manifest["quarantined"]), base.manifest["reports"]
    for reason, count in set_aside.items():
        quarantined[reason] = quarantined.get(reason, 0) + count
    manifest = {
        **base.manifest,
        "roles": dataclasses.asdict(base.roles),
        "label": label.model_dump(),
        "counts": {**base.manifest["counts"], **{name: len(frame) for name, frame in frames.items()}},
        "label_mean": round(float(events[LABEL].mean()), 6),
        "cutoffs": {
            "first": events[EVENT_TIMESTAMP].min().isoformat(),
            "last": events[EVENT_TIMESTAMP].max().isoformat(),
        },
        "quarantined": quarantined,
        "reports": {
            **reports,
            **found,
            "appended_from": [*reports.get("appended_from", []), str(new_path)],
        },
        **intake.said(),
        "sha256": {file.name: sha256_file(file) for file in files},
    }
    write_json(out_path / DatasetFile.MANIFEST, manifest)
