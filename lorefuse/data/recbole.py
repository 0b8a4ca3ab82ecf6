"""RecBole's atomic files: a data set of the user's own in the format of RUCAIBox/RecSysDatasets.

Origin: Zhao et al., "RecBole" (CIKM 2021). Tab-separated UTF-8 without quoting; the header gives each column's type:
``token`` one category, ``token_seq`` several separated by spaces, ``float`` a number. Licences are those of each set.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from lorefuse.config.sources import RecBoleSource
from lorefuse.core.errors import DataError
from lorefuse.core.progress import track
from lorefuse.core.schema import EVENT_TIMESTAMP, ITEM_ID, USER_ID, VALUE
from lorefuse.data.names import item_names, report_renamed, user_names
from lorefuse.data.quarantine import LINE, Quarantine
from lorefuse.data.raw import require_columns
from lorefuse.data.tables import RawTables, Roles

TYPES = ("token", "token_seq", "float", "float_seq")


def read_recbole(source: RecBoleSource, quarantine: Quarantine) -> RawTables:
    """Read ``.inter`` and ``.item``, and ``.user`` where it is there.

    Args:
        source: Folder, name and the columns that matter.
        quarantine: Receives lines with the wrong number of cells or broken UTF-8.

    Raises:
        DataError: A file is missing, its header is not typed, or a column is not there.
    """
    paths = {suffix: source.folder_path / f"{source.name}.{suffix}" for suffix in ("inter", "item", "user")}
    inter, _ = read_atomic(paths["inter"], quarantine)
    value = [source.value] if source.value else []
    require_columns(inter, [source.user_id, source.item_id, source.timestamp, *value], paths["inter"])
    items, types = read_atomic(paths["item"], quarantine)
    require_columns(items, [source.item_id, *source.item_text], paths["item"])
    types.pop(source.item_id)
    others = {name: kind for name, kind in types.items() if name not in source.item_text}
    users: pd.DataFrame | None = None
    user_categories: tuple[str, ...] = ()
    if paths["user"].is_file():
        users, user_types = read_atomic(paths["user"], quarantine)
        require_columns(users, [source.user_id], paths["user"])
        user_categories = tuple(n for n, kind in user_types.items() if kind == "token" and n != source.user_id)
    named = item_names([*source.item_text, *(name for name, kind in others.items() if kind != "float_seq")])

    def of_kind(wanted: str) -> tuple[str, ...]:
        return tuple(named[name] for name, kind in others.items() if kind == wanted)

    users_named = user_names(user_categories, (*of_kind("token"), *of_kind("token_seq")))
    roles = Roles(
        item_text=tuple(named[name] for name in source.item_text),
        item_title=named[source.item_text[0]] if source.item_text else ITEM_ID,
        item_categories=of_kind("token"),
        item_multi_categories=of_kind("token_seq"),
        item_numerics=of_kind("float"),
        user_categories=tuple(users_named.values()),
    )
    return RawTables(
        interactions=pd.DataFrame(
            {
                USER_ID: inter[source.user_id],
                ITEM_ID: inter[source.item_id],
                EVENT_TIMESTAMP: inter[source.timestamp],
                VALUE: inter[source.value] if source.value else 1.0,
                LINE: inter[LINE],
            }
        ),
        items=_renamed(items, {source.item_id: ITEM_ID, **named, LINE: LINE}),
        users=None if users is None else _renamed(users, {source.user_id: USER_ID, **users_named, LINE: LINE}),
        triples=None,
        links=None,
        roles=roles,
        files={"interactions": paths["inter"].name, "items": paths["item"].name, "users": paths["user"].name},
        source={"kind": source.kind, "origin": str(source.folder_path), "name": source.name},
        multi_separator=" ",
        reports=report_renamed(named, users_named),
    )


def _renamed(table: pd.DataFrame, names: dict[str, str]) -> pd.DataFrame:
    return pd.DataFrame({name: table[column] for column, name in names.items()})


def read_atomic(path: Path, quarantine: Quarantine) -> tuple[pd.DataFrame, dict[str, str]]:
    """Read one atomic file into columns of text (empty cells None) with `LINE`, and the type of each column."""
    if not path.is_file():
        raise DataError(
            f"There is no file {path}.",
            expected="an atomic file of RecBole",
            got="nothing there",
            fix="correct data.source.folder_path or name",
        )
    with path.open("rb") as stream:
        header = [cell.partition(":") for cell in stream.readline().decode("utf-8-sig").rstrip("\r\n").split("\t")]
        types = {name: kind for name, _, kind in header}
        if len(types) != len(header) or any(kind not in TYPES for kind in types.values()):
            raise DataError(
                f"{path} has no header of an atomic file.",
                expected=f"distinct columns like user_id:token, with the types {', '.join(TYPES)}",
                got="\t".join("".join(cell) for cell in header)[:200],
                fix="for other formats use data.source.kind: files",
            )
        columns: dict[str, list[str | None]] = {name: [] for name in types}
        lines: list[int] = []
        for line, raw in enumerate(track(stream, f"Reading {path.name}"), start=2):
            if not raw.strip():
                continue
            quarantine.num_rows_read[path.name] += 1
            text = raw.decode("utf-8", "replace").rstrip("\r\n")
            cells = text.split("\t")
            if "\ufffd" in text or len(cells) != len(types):
                wrong = f"wrong number of cells: {len(cells)}, expected {len(types)}"
                quarantine.add(path.name, line, wrong if len(cells) != len(types) else "not UTF-8", text[:500])
                continue
            for name, cell in zip(types, cells, strict=True):
                columns[name].append(cell or None)
            lines.append(line)
    return pd.DataFrame({**columns, LINE: lines}, dtype=object).astype({LINE: "int64"}), types
